// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/decode.h"

#include <bitset>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/quote.h"

namespace wisp::config {

namespace {

using Kind = Value::Kind;

constexpr size_t kMaxFields = 32;  // of one struct

/// A number as Rust shows it: always with a point or an exponent.
std::string real_text(double value) {
    char text[40];
    for (int precision = 15; precision <= 17; ++precision) {
        snprintf(text, sizeof text, "%.*g", precision, value);
        if (strtod(text, nullptr) == value) break;
    }
    return strpbrk(text, ".en") ? text : std::string(text) + ".0";
}

/// What a value is, for "invalid type: …".
std::string describe(const Value& value) {
    switch (value.kind) {
        case Kind::kNull:
            return "null";
        case Kind::kBool:
            return value.boolean ? "boolean `true`" : "boolean `false`";
        case Kind::kUnsigned:
            return format("integer `%llu`", static_cast<unsigned long long>(value.number));
        case Kind::kSigned:
            return format("integer `%lld`", static_cast<long long>(value.as_signed()));
        case Kind::kFloat:
            return value.text.empty() ? "floating point `" + real_text(value.real) + "`"
                                      : "integer `" + value.text + "`";
        case Kind::kString:
            return "string " + quoted(value.text);
        case Kind::kArray:
            return "sequence";
        case Kind::kObject:
            return "map";
        case Kind::kFault:
            break;
    }
    return "nothing";
}

/// "`a`", "`a` or `b`", "one of `a`, `b`, `c`".
std::string list_names(size_t count, const char* (*name)(const void*, size_t), const void* names) {
    if (count == 1) return format("`%s`", name(names, 0));
    if (count == 2) return format("`%s` or `%s`", name(names, 0), name(names, 1));
    std::string out = "one of ";
    for (size_t i = 0; i < count; ++i) out += format("%s`%s`", i ? ", " : "", name(names, i));
    return out;
}

std::unexpected<DocumentFault> fault_at(Place place, const std::string& message) {
    return std::unexpected(DocumentFault{message, place});
}

std::unexpected<DocumentFault> unknown_field(const Member& member, const Schema& schema) {
    const auto name = [](const void* fields, size_t i) { return static_cast<const Field*>(fields)[i].name; };
    const std::string expected = schema.fields.empty()
                                     ? "there are no fields"
                                     : "expected " + list_names(schema.fields.size(), name, schema.fields.data());
    return fault_at(member.after, "unknown field `" + member.name + "`, " + expected);
}

template <class T>
Decoded<> read_unsigned(const Value& value, T& out, const char* expected) {
    out = static_cast<T>(TRY(read_integer(value, std::numeric_limits<T>::max(), expected)));
    return {};
}

}  // namespace

std::unexpected<DocumentFault> fault_in(const Value& value, const std::string& message) {
    return fault_at(value.end, message);
}

std::unexpected<DocumentFault> fault_after(const Value& value, const std::string& message) {
    return fault_at(value.after, message);
}

std::unexpected<DocumentFault> wrong_type(const Value& value, const char* expected) {
    if (value.is(Kind::kFault)) return fault_in(value, value.text);
    const std::string message = "invalid type: " + describe(value) + ", expected " + expected;
    // serde_json reports a container before it reads it.
    const bool container = value.is(Kind::kArray) || value.is(Kind::kObject);
    return container ? fault_at(value.begin, message) : fault_in(value, message);
}

Decoded<> read_object(const Value& value, const Schema& schema, void* object) {
    CHECK(schema.fields.size() <= kMaxFields);
    if (!value.is(Kind::kObject)) return wrong_type(value, format("struct %s", schema.name).c_str());

    std::bitset<kMaxFields> seen;
    for (const Member& member : value.members) {
        size_t i = 0;
        while (i < schema.fields.size() && member.name != schema.fields[i].name) ++i;
        if (i == schema.fields.size()) {
            const bool refused =
                schema.unknown == Schema::Unknown::kRefuse ||
                (schema.unknown == Schema::Unknown::kRefuseUnlessNull && !member.value.is(Kind::kNull));
            if (refused) return unknown_field(member, schema);
            if (const Value* fault = member.value.find_fault()) return fault_in(*fault, fault->text);
            continue;
        }
        if (seen[i]) return fault_at(member.after, format("duplicate field `%s`", schema.fields[i].name));
        seen.set(i);
        TRY(schema.fields[i].read(member.value, object));
    }
    if (!value.items.empty()) return fault_in(value.items[0], value.items[0].text);
    for (size_t i = 0; i < schema.fields.size(); ++i)
        if (schema.fields[i].required && !seen[i])
            return fault_in(value, format("missing field `%s`", schema.fields[i].name));
    return {};
}

Decoded<uint64_t> read_integer(const Value& value, uint64_t limit, const char* expected) {
    const bool too_long = value.is(Kind::kFloat) && !value.text.empty();
    if (!value.is(Kind::kUnsigned) && !value.is(Kind::kSigned) && !too_long) return wrong_type(value, expected);
    if (!value.is(Kind::kUnsigned) || value.number > limit)
        return fault_in(value, "invalid value: " + describe(value) + ", expected " + expected);
    return value.number;
}

Decoded<> read(const Value& value, bool& out) {
    if (!value.is(Kind::kBool)) return wrong_type(value, "a boolean");
    out = value.boolean;
    return {};
}

Decoded<> read(const Value& value, uint8_t& out) {
    return read_unsigned(value, out, "u8");
}
Decoded<> read(const Value& value, uint16_t& out) {
    return read_unsigned(value, out, "u16");
}
Decoded<> read(const Value& value, uint32_t& out) {
    return read_unsigned(value, out, "u32");
}
Decoded<> read(const Value& value, uint64_t& out) {
    return read_unsigned(value, out, "u64");
}

Decoded<std::string> read_text(const Value& value, const char* expected) {
    if (!value.is(Kind::kString)) return wrong_type(value, expected);
    return value.text;
}

Decoded<> read(const Value& value, std::string& out) {
    out = TRY(read_text(value, "a string"));
    return {};
}

Decoded<size_t> read_variant(const Value& value, std::span<const char* const> names) {
    if (value.is(Kind::kFault)) return fault_in(value, value.text);
    if (!value.is(Kind::kString)) {
        if (value.syntax == Syntax::kToml) return fault_at(value.begin, "expected a string");
        return fault_at(value.begin + 1, "expected value");  // serde_json has read the first byte
    }
    for (size_t i = 0; i < names.size(); ++i)
        if (value.text == names[i]) return i;
    const auto name = [](const void* list, size_t i) { return static_cast<const char* const*>(list)[i]; };
    return fault_in(value,
                    "unknown variant `" + value.text + "`, expected " + list_names(names.size(), name, names.data()));
}

}  // namespace wisp::config
