// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace wisp {

/// Whether the text is UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
bool valid_utf8(std::string_view text);

}  // namespace wisp
