// SPDX-License-Identifier: Apache-2.0
//
// Decoder: a Value tree to plain structs, by one table for each struct. Its messages are serde_json's, position
// included, because they reach Firecracker's clients as fault messages; of a TOML file they name TOML's line and
// column. One kind differs: an integer that does not fit in 64 bits is named as an integer, never as a float.
//
// Members are taken in the order of the text, so that the fault that comes first in the text is the one that is
// reported.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "vmm/config/value.h"

namespace wisp::config {

/// What a reader returns: its fault has no line and column yet, which decode() adds.
template <class T = void>
using Decoded = std::expected<T, DocumentFault>;

/// One field of a struct: how to read a value into it. Made by required<>() and optional<>() below.
struct Field {
    const char* name;
    bool required;
    Decoded<> (*read)(const Value& value, void* object);
};

/// A struct: its name in messages, its fields in the order in which they are listed and missed.
struct Schema {
    enum class Unknown : uint8_t { kRefuse, kRefuseUnlessNull, kIgnore };

    const char* name;
    std::span<const Field> fields;
    Unknown unknown = Unknown::kRefuse;
};

Decoded<> read_object(const Value& value, const Schema& schema, void* object);

Decoded<> read(const Value& value, bool& out);
Decoded<> read(const Value& value, uint8_t& out);
Decoded<> read(const Value& value, uint16_t& out);
Decoded<> read(const Value& value, uint32_t& out);
Decoded<> read(const Value& value, uint64_t& out);
Decoded<> read(const Value& value, std::string& out);

/// An integer from 0 to `limit`; `expected` is its type's name in messages.
Decoded<uint64_t> read_integer(const Value& value, uint64_t limit, const char* expected);

/// Index of the string among `names`. `names` in the order in which a message lists them.
Decoded<size_t> read_variant(const Value& value, std::span<const char* const> names);

/// A string that stands for something else. fault_after() reports what is wrong with it.
Decoded<std::string> read_text(const Value& value, const char* expected);

/// A fault that serde_json sees while it reads the value.
[[nodiscard]] std::unexpected<DocumentFault> fault_in(const Value& value, const std::string& message);

/// A fault that serde_json reports only after the value, such as that of a string's own check.
[[nodiscard]] std::unexpected<DocumentFault> fault_after(const Value& value, const std::string& message);

/// The value is of the wrong type.
[[nodiscard]] std::unexpected<DocumentFault> wrong_type(const Value& value, const char* expected);

template <class T>
Decoded<> read(const Value& value, std::optional<T>& out) {
    if (value.is(Value::Kind::kNull)) {
        out.reset();
        return {};
    }
    return read(value, out.emplace());
}

template <class T>
Decoded<> read(const Value& value, std::vector<T>& out) {
    if (!value.is(Value::Kind::kArray)) return wrong_type(value, "a sequence");
    out.clear();
    for (const Value& item : value.items) TRY(read(item, out.emplace_back()));
    return {};
}

namespace detail {
template <class C, class T>
C owner_of(T C::*);

template <auto Member>
Decoded<> read_member(const Value& value, void* object) {
    using Owner = decltype(owner_of(Member));
    return read(value, static_cast<Owner*>(object)->*Member);
}
}  // namespace detail

template <auto Member>
constexpr Field required(const char* name) {
    return {name, true, detail::read_member<Member>};
}

template <auto Member>
constexpr Field optional(const char* name) {
    return {name, false, detail::read_member<Member>};
}

/// As above with a reader of the field's own, `Decoded<> Read(const Value&, T&)`. An optional T may be null.
template <auto Member, auto Read>
constexpr Field with(const char* name, bool required) {
    constexpr auto call = [](const Value& value, void* object) -> Decoded<> {
        using Owner = decltype(detail::owner_of(Member));
        auto& field = static_cast<Owner*>(object)->*Member;
        if constexpr (requires {
                          field.emplace();
                          field.has_value();
                      }) {
            if (!value.is(Value::Kind::kNull)) return Read(value, field.emplace());
            field.reset();
            return {};
        } else {
            return Read(value, field);
        }
    };
    return {name, required, call};
}

/// A whole document as a T: T's fault, or else the document's own.
template <class T>
Result<T> decode(const Document& document) {
    T object{};
    if (auto done = read(document.root, object); !done) return std::unexpected(document.error(std::move(done).error()));
    const Value& tail = document.tail;
    if (tail.is(Value::Kind::kFault)) return std::unexpected(document.error({tail.text, tail.end}));
    return object;
}

}  // namespace wisp::config
