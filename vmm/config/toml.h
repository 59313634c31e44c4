// SPDX-License-Identifier: Apache-2.0
//
// TOML text to a Value tree (toml++ does the parsing). For machine files only: TOML never comes from an API client.
#pragma once

#include <string_view>

#include "vmm/config/value.h"

namespace wisp::config {

/// Never fails: what is wrong with the text is in the tree as a kFault value.
/// Dates and times have no JSON counterpart and become strings.
Document parse_toml(std::string_view text);

}  // namespace wisp::config
