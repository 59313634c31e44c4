// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace wisp {

/// A text in quotes on one line, as Rust's {:?} shows it: Firecracker's messages and log lines quote in this way.
std::string quoted(std::string_view text);

}  // namespace wisp
