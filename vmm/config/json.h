// SPDX-License-Identifier: Apache-2.0
//
// JSON text to a Value tree. The text is untrusted; depth is bounded by limits below, size by the caller.
#pragma once

#include <string_view>

#include "vmm/config/value.h"

namespace wisp::config {

inline constexpr unsigned kMaxJsonDepth = 127;  ///< arrays and objects within each other: serde_json's bound

/// Never fails: what is wrong with the text is in the tree as a kFault value, in serde_json's words.
Document parse_json(std::string_view text);

/// As parse_json, for free-form documents: the first syntax error is the error, position included.
Result<Value> parse_json_strict(std::string_view text);

}  // namespace wisp::config
