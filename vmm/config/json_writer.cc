// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/json_writer.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace wisp::config {

void JsonWriter::separate() {
    if (need_comma_) text_ += ',';
    need_comma_ = true;
}

void JsonWriter::open(char bracket) {
    separate();
    text_ += bracket;
    need_comma_ = false;
}

void JsonWriter::close(char bracket) {
    text_ += bracket;
    need_comma_ = true;
}

void JsonWriter::key(std::string_view name) {
    separate();
    quote(name);
    text_ += ':';
    need_comma_ = false;
}

void JsonWriter::raw(std::string_view text) {
    separate();
    text_ += text;
}

void JsonWriter::number(uint64_t value) {
    char digits[24];
    raw({digits, std::to_chars(digits, digits + sizeof digits, value).ptr});
}

void JsonWriter::signed_number(int64_t value) {
    char digits[24];
    raw({digits, std::to_chars(digits, digits + sizeof digits, value).ptr});
}

void JsonWriter::real(double value) {
    if (!std::isfinite(value)) return null();
    // (std::to_chars would bring 100 KiB of tables into the binary.)
    char text[40];
    for (int precision = 15; precision <= 17; ++precision) {
        snprintf(text, sizeof text, "%.*g", precision, value);
        if (strtod(text, nullptr) == value) break;
    }
    raw(text);
    // Without a point or an exponent it would read back as an integer.
    if (!strpbrk(text, ".e")) text_ += ".0";
}

void JsonWriter::string(std::string_view text) {
    separate();
    quote(text);
}

void JsonWriter::quote(std::string_view text) {
    static constexpr char kHex[] = "0123456789abcdef";
    text_ += '"';
    for (const char c : text) {
        switch (c) {
            case '"':
                text_ += "\\\"";
                break;
            case '\\':
                text_ += "\\\\";
                break;
            case '\b':
                text_ += "\\b";
                break;
            case '\f':
                text_ += "\\f";
                break;
            case '\n':
                text_ += "\\n";
                break;
            case '\r':
                text_ += "\\r";
                break;
            case '\t':
                text_ += "\\t";
                break;
            default:
                if (static_cast<unsigned char>(c) < 0x20) {
                    text_ += "\\u00";
                    text_ += kHex[c >> 4];
                    text_ += kHex[c & 15];
                } else {
                    text_ += c;
                }
        }
    }
    text_ += '"';
}

std::string JsonWriter::take() {
    need_comma_ = false;
    return std::exchange(text_, {});
}

}  // namespace wisp::config
