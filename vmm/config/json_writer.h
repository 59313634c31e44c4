// SPDX-License-Identifier: Apache-2.0
//
// JsonWriter: compact JSON text, value by value. It writes commas and colons; its caller balances the brackets.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace wisp::config {

class JsonWriter {
public:
    void begin_object() { open('{'); }
    void end_object() { close('}'); }
    void begin_array() { open('['); }
    void end_array() { close(']'); }
    void key(std::string_view name);

    void null() { raw("null"); }
    void boolean(bool value) { raw(value ? "true" : "false"); }
    void number(uint64_t value);
    void signed_number(int64_t value);
    void real(double value);  ///< the shortest text that reads back as the same number; null if there is none
    void string(std::string_view text);

    /// The text so far; the writer is empty afterwards.
    std::string take();

private:
    void open(char bracket);
    void close(char bracket);
    void separate();
    void raw(std::string_view text);
    void quote(std::string_view text);

    std::string text_;
    bool need_comma_ = false;
};

}  // namespace wisp::config
