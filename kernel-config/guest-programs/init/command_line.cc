// SPDX-License-Identifier: Apache-2.0
// The command that the kernel command line gives: everything after the word `--`.
//
// The kernel hands those words to init too, but mixed with every option before `--` that it does not know itself
// (`nomodule`, in a kernel without modules), and without any way to quote a double quote. So the line is read again.

#include "init.h"

namespace {

constexpr size_t kMaxLineSize = 4096;  // x86 kernels keep 2048 bytes

// Splits at spaces. Double quotes group; a backslash takes the next quote or backslash literally.
class Splitter {
public:
    explicit Splitter(char* line) : next_(line) {}

    // The next word, unquoted in place; null at the end.
    const char* next_word() {
        while (*next_ == ' ' || *next_ == '\n' || *next_ == '\t') next_++;
        if (*next_ == 0) return nullptr;
        char* const word = next_;
        char* out = next_;
        bool quoted = false;
        for (; *next_ != 0; next_++) {
            const char letter = *next_;
            if (letter == '"') {
                quoted = !quoted;
            } else if (letter == '\\' && (next_[1] == '"' || next_[1] == '\\')) {
                *out++ = *++next_;
            } else if (!quoted && (letter == ' ' || letter == '\n' || letter == '\t')) {
                next_++;
                break;
            } else {
                *out++ = letter;
            }
        }
        *out = 0;
        return word;
    }

private:
    char* next_;
};

}  // namespace

const Command& command_of_kernel_line() {
    static char line[kMaxLineSize];
    static Command command;
    const int file = sys::open("/proc/cmdline", O_RDONLY);
    if (file < 0) return command;
    const long size = sys::read(file, line, sizeof line - 1);
    sys::close(file);
    line[size < 0 ? 0 : size] = 0;

    Splitter words(line);
    const char* word = words.next_word();
    for (; word != nullptr && std::string_view(word) != "--"; word = words.next_word()) {
        if (std::string_view(word).starts_with("wisp.agent")) command.agent = word;
    }
    if (word == nullptr) return command;
    while (command.count < Command::kMaxArguments && (word = words.next_word()) != nullptr) {
        command.arguments[command.count++] = word;
    }
    return command;
}
