// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/command_line.h"

#include "base/limits.h"
#include "vmm/boot/layout.h"

namespace wisp::boot {

namespace {

constexpr std::string_view kSeparator = " -- ";

std::string_view trim(std::string_view text) {
    constexpr std::string_view kBlanks = " \t\r\n";
    const size_t first = text.find_first_not_of(kBlanks);
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

Result<void> check_printable(std::string_view text) {
    for (size_t i = 0; i < text.size(); ++i)
        if (text[i] < ' ' || text[i] > '~')
            return fail("kernel command line: byte %zu (%#04x) is not printable ASCII", i + 1,
                        static_cast<unsigned char>(text[i]));
    return {};
}

/// Where the word `--` stands outside double quotes, or npos. The kernel stops at it (kernel/params.c, parse_args).
size_t find_separator(std::string_view text) {
    bool quoted = false;
    for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '"') quoted = !quoted;
        const bool starts = i == 0 || text[i - 1] == ' ';
        const bool ends = i + 2 == text.size() || (i + 2 < text.size() && text[i + 2] == ' ');
        if (!quoted && starts && ends && text.substr(i, 2) == "--") return i;
    }
    return text.npos;
}

Result<void> check_length(size_t kernel, size_t init) {
    const size_t length = kernel + (init ? kSeparator.size() + init : 0) + 1;
    if (length > limits::kMaxCommandLine)
        return fail("kernel command line: %zu bytes with the terminating NUL; at most %zu are accepted", length,
                    limits::kMaxCommandLine);
    return {};
}

}  // namespace

Result<CommandLine> CommandLine::create(std::optional<std::string_view> boot_args) {
    const std::string_view text = trim(boot_args.value_or(kDefaultCommandLine));
    TRY(check_printable(text));
    const size_t separator = find_separator(text);

    CommandLine line;
    line.kernel_ = trim(text.substr(0, separator));
    if (separator != text.npos) line.init_ = trim(text.substr(separator + 2));
    TRY(check_length(line.kernel_.size(), line.init_.size()));
    return line;
}

Result<void> CommandLine::add(std::string_view words) {
    TRY(check_printable(words));
    TRY(check_length(kernel_.size() + !kernel_.empty() + words.size(), init_.size()));
    if (!kernel_.empty()) kernel_ += ' ';
    kernel_ += words;
    return {};
}

Result<void> CommandLine::add_root(const RootDrive& root) {
    std::string words = root.partuuid.empty() ? "root=/dev/vda" : "root=PARTUUID=" + root.partuuid;
    words += root.access == RootDrive::Access::kReadOnly ? " ro" : " rw";
    return add(words);
}

Result<void> CommandLine::add_virtio_mmio(const VirtioMmioDevice& device) {
    return add(format("virtio_mmio.device=%luK@0x%lx:%u", static_cast<unsigned long>(kMmioSlotSize >> 10),
                      static_cast<unsigned long>(device.address.value), device.gsi));
}

std::string CommandLine::text() const {
    if (init_.empty()) return kernel_;
    // A line of init arguments alone starts with the separator, so that the kernel takes none of them.
    return kernel_.empty() ? "-- " + init_ : kernel_ + std::string(kSeparator) + init_;
}

}  // namespace wisp::boot
