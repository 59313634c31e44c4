// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/json_faults.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

#define RAPIDJSON_ASSERT(condition) CHECK(condition)
#include <rapidjson/error/error.h>

namespace wisp::config {

namespace {

bool blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/// serde_json counts the byte it is looking at as read, and at the end of the text there is none.
size_t past(std::string_view text, size_t offset) {
    return std::min(offset + 1, text.size());
}

/// Last byte before `offset` that is no blank, or 0.
char before(std::string_view text, size_t offset) {
    while (offset > 0 && blank(text[offset - 1])) --offset;
    return offset > 0 ? text[offset - 1] : '\0';
}

JsonFault value_fault(std::string_view text, size_t offset) {
    const char last = offset > 0 ? text[offset - 1] : '\0';
    if (last >= 'a' && last <= 'z')
        return {offset == text.size() ? "EOF while parsing a value" : "expected ident", past(text, offset)};
    if (last == '-')
        return {offset == text.size() ? "EOF while parsing a value" : "invalid number", past(text, offset)};
    const char previous = before(text, offset);
    if (offset == text.size())
        return {previous == '[' ? "EOF while parsing a list" : "EOF while parsing a value", offset};
    return {text[offset] == ']' && previous == ',' ? "trailing comma" : "expected value", offset + 1};
}

/// Past a number that starts at `offset`.
size_t skip_number(std::string_view text, size_t offset) {
    const auto digits = [&] {
        while (offset < text.size() && text[offset] >= '0' && text[offset] <= '9') ++offset;
    };
    const auto take = [&](const char* one_of) {
        const bool found = offset < text.size() && text[offset] != '\0' && strchr(one_of, text[offset]);
        offset += found;
        return found;
    };
    take("-");
    digits();
    if (take(".")) digits();
    if (take("eE")) {
        take("+-");
        digits();
    }
    return offset;
}

JsonFault name_fault(std::string_view text, size_t offset) {
    const char previous = before(text, offset);
    if (offset == text.size())
        return {previous == ',' ? "EOF while parsing a value" : "EOF while parsing an object", offset};
    if (text[offset] == '}' && previous == ',') return {"trailing comma", offset + 1};
    return {"key must be a string", offset + 1};
}

/// `offset`: of a backslash, or of a byte that may not stand in a string.
JsonFault escape_fault(std::string_view text, size_t offset) {
    const auto end = [&](size_t position) { return position >= text.size(); };
    const JsonFault eof{"EOF while parsing a string", text.size()};
    const auto hex = [&](size_t start) {
        return std::all_of(text.begin() + start, text.begin() + start + 4,
                           [](char c) { return isxdigit(static_cast<unsigned char>(c)); });
    };
    if (text[offset] != '\\') return {"control character (\\u0000-\\u001F) found while parsing a string", offset};
    if (end(offset + 1)) return eof;
    if (text[offset + 1] != 'u') return {"invalid escape", offset + 2};
    if (end(offset + 5)) return eof;
    if (!hex(offset + 2)) return {"invalid escape", offset + 6};
    // The first half of a surrogate pair: its second half is what is wrong.
    if (end(offset + 6)) return eof;
    if (text[offset + 6] != '\\') return {"unexpected end of hex escape", offset + 7};
    if (end(offset + 7)) return eof;
    if (text[offset + 7] != 'u') return {"unexpected end of hex escape", offset + 8};
    if (end(offset + 11)) return eof;
    if (!hex(offset + 8)) return {"invalid escape", offset + 12};
    return {"lone leading surrogate in hex escape", offset + 12};
}

}  // namespace

size_t JsonScanner::after(size_t offset, In in) const {
    const size_t next = skip_blanks(offset);
    if (next == text_.size() || in == In::kNothing) return next;
    if (in == In::kObject) return next + (text_[next] == '}');
    if (text_[next] == ',') return skip_blanks(next + 1);
    return next + (text_[next] == ']');
}

size_t JsonScanner::skip_blanks(size_t offset) const {
    while (offset < text_.size() && blank(text_[offset])) ++offset;
    return offset;
}

size_t JsonScanner::skip(size_t offset) const {
    while (offset < text_.size() && (blank(text_[offset]) || text_[offset] == ',' || text_[offset] == ':')) ++offset;
    return offset;
}

bool JsonScanner::digit(size_t offset) const {
    return offset < text_.size() && text_[offset] >= '0' && text_[offset] <= '9';
}

JsonFault explain_json_fault(std::string_view text, const rapidjson::ParseResult& result) {
    const size_t offset = std::min(result.Offset(), text.size());
    const bool end = offset == text.size();
    switch (result.Code()) {
        case rapidjson::kParseErrorDocumentEmpty:
            if (end) return {"EOF while parsing a value", offset};
            return {"expected value", offset + 1};
        case rapidjson::kParseErrorValueInvalid:
            return value_fault(text, offset);
        case rapidjson::kParseErrorObjectMissName:
            return name_fault(text, offset);
        case rapidjson::kParseErrorObjectMissColon:
            return {end ? "EOF while parsing an object" : "expected `:`", past(text, offset)};
        case rapidjson::kParseErrorObjectMissCommaOrCurlyBracket:
            return {end ? "EOF while parsing an object" : "expected `,` or `}`", past(text, offset)};
        case rapidjson::kParseErrorArrayMissCommaOrSquareBracket:
            return {end ? "EOF while parsing a list" : "expected `,` or `]`", past(text, offset)};
        case rapidjson::kParseErrorStringMissQuotationMark:
            // A zero byte looks like the end to RapidJSON.
            return end ? JsonFault{"EOF while parsing a string", offset} : escape_fault(text, offset);
        case rapidjson::kParseErrorStringEscapeInvalid:
        case rapidjson::kParseErrorStringUnicodeEscapeInvalidHex:
        case rapidjson::kParseErrorStringUnicodeSurrogateInvalid:
            return escape_fault(text, offset);
        case rapidjson::kParseErrorNumberMissFraction:
        case rapidjson::kParseErrorNumberMissExponent:
            return {end ? "EOF while parsing a value" : "invalid number", past(text, offset)};
        case rapidjson::kParseErrorNumberTooBig:
            return {"number out of range", skip_number(text, offset)};
        default:
            return {"invalid JSON", past(text, offset)};
    }
}

}  // namespace wisp::config
