// SPDX-License-Identifier: Apache-2.0
//
// What is wrong with a JSON text, and where, in serde_json's words: Firecracker's clients match them. RapidJSON finds
// the fault; its code and offset are less detailed than serde_json's texts, so the bytes around it decide.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "vmm/config/value.h"

namespace rapidjson {
struct ParseResult;
}

namespace wisp::config {

struct JsonFault {
    const char* message;
    size_t offset;  ///< serde_json's notion of where: bytes read when it saw the fault
};

/// Looks at what comes next in a text. All functions take and return byte offsets.
class JsonScanner {
public:
    explicit JsonScanner(std::string_view text) : text_(text) {}

    /// What a value or key stands in.
    enum class In : uint8_t { kNothing, kObject, kArray };

    /// As Value::after.
    size_t after(size_t offset, In in) const;

    size_t skip_blanks(size_t offset) const;

    /// Past blanks, commas and colons: where the next token starts.
    size_t skip(size_t offset) const;

    bool digit(size_t offset) const;

private:
    std::string_view text_;
};

JsonFault explain_json_fault(std::string_view text, const rapidjson::ParseResult& result);

}  // namespace wisp::config
