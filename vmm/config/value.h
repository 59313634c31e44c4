// SPDX-License-Identifier: Apache-2.0
//
// Value: one document tree for JSON and TOML. Each value and key knows its place in the source, so that a fault that is
// found long after parsing still names line and column. A place becomes a line and a column only in the one fault that
// is reported, so that a document costs work that is linear in its length.
//
// A syntax error is part of the tree: the parser stops, puts a kFault value where it stopped, and the decoder reports
// it when it gets there. So the fault that comes first in the text is the one that is reported, as by a streaming
// parser (serde_json, whose texts Firecracker's clients know).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace wisp::config {

/// A place in a source text: of JSON its byte offset, of TOML an index into Document::positions.
using Place = uint32_t;
inline constexpr Place kNoPlace = UINT32_MAX;

/// Lines count from 1. A JSON column is the number of bytes before the place in its line; a TOML column counts
/// characters from 1.
struct Position {
    uint32_t line = 0;  ///< 0: no place is known
    uint32_t column = 0;
};

/// What is wrong with a document, and where.
struct DocumentFault {
    std::string message;
    Place place = kNoPlace;
};

/// The language of a document: it decides where a fault is said to be.
enum class Syntax : uint8_t { kJson, kToml };

struct Member;

struct Value {
    enum class Kind : uint8_t {
        kNull,
        kBool,
        kUnsigned,  ///< an integer ≥ 0
        kSigned,    ///< an integer < 0
        kFloat,
        kString,
        kArray,
        kObject,
        kFault,  ///< the text is not well-formed from here on; `text` says why, `end` where
    };

    Kind kind = Kind::kNull;
    Syntax syntax = Syntax::kJson;
    bool boolean = false;
    uint64_t number = 0;  ///< of kUnsigned; of kSigned as two's complement
    double real = 0;
    std::string text;             ///< of kString and kFault; of an integer that no 64 bits hold (kFloat): its digits
    std::vector<Value> items;     ///< of kArray; of kObject at most one: a kFault where the next key should be
    std::vector<Member> members;  ///< of kObject, in the order of the text, duplicates included
    Place begin = kNoPlace;       ///< of its first byte
    Place end = kNoPlace;         ///< past its last byte; of TOML its first byte, where an editor should jump to
    /// Past what serde_json looks at behind it: blanks, the closing bracket (or an array's comma). Of TOML as `end`.
    Place after = kNoPlace;

    bool is(Kind other) const { return kind == other; }
    int64_t as_signed() const { return static_cast<int64_t>(number); }

    /// The value of a member, or nullptr. Only for kObject.
    const Value* find(const char* name) const;

    /// The first syntax fault within, or nullptr.
    const Value* find_fault() const;
};

struct Member {
    std::string name;
    Place after = kNoPlace;  ///< of the key: as Value::after
    bool present = false;    ///< for the parser: the key has been read
    Value value;
};

/// A whole text.
struct Document {
    Value root;
    Value tail;  ///< a kFault if something follows the root, else null
    Syntax syntax = Syntax::kJson;
    std::vector<uint32_t> line_starts = {0};  ///< of JSON: offsets
    uint32_t size = 0;                        ///< of JSON: bytes
    std::vector<Position> positions;          ///< of TOML

    Position position(Place place) const;

    /// "<message> at line 1 column 8"; the message alone if the place is not known.
    Error error(DocumentFault fault) const;
};

/// Compact JSON text of a tree, members in order.
std::string to_json(const Value& value);

}  // namespace wisp::config
