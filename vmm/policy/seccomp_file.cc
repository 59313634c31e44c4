// SPDX-License-Identifier: Apache-2.0
#include "vmm/policy/seccomp_file.h"

#include <cstring>
#include <optional>
#include <string>

#include "base/endian.h"
#include "base/limits.h"

namespace wisp {

namespace {

constexpr size_t kMaxEntries = 8;
constexpr size_t kMaxName = 32;

// Takes pieces off the front. What is missing is an error of the file, never a read behind its end.
class Reader {
public:
    explicit Reader(std::span<const std::byte> rest) : rest_(rest) {}

    Result<std::span<const std::byte>> bytes(size_t count) {
        if (count > rest_.size()) return fail("it is cut short");
        const auto taken = rest_.first(count);
        rest_ = rest_.subspan(count);
        return taken;
    }
    Result<uint64_t> number() {
        const auto taken = TRY(bytes(sizeof(le64)));
        le64 value;
        memcpy(&value, taken.data(), sizeof value);
        return uint64_t{value};
    }
    bool done() const { return rest_.empty(); }

private:
    std::span<const std::byte> rest_;
};

Result<std::string> read_name(Reader& reader) {
    const uint64_t length = TRY(reader.number());
    if (length > kMaxName) return fail("the name of a thread has %lu bytes", length);
    const auto bytes = TRY(reader.bytes(length));
    std::string name;
    for (const std::byte byte : bytes) {
        const char letter = static_cast<char>(byte);
        name += letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
    }
    return name;
}

Result<std::vector<sock_filter>> read_program(Reader& reader, const std::string& name) {
    const uint64_t length = TRY(reader.number());
    if (length > BPF_MAXINSNS)
        return fail("the program of \"%s\" has %lu instructions, more than the kernel's %d", name.c_str(), length,
                    BPF_MAXINSNS);
    const auto bytes = TRY(reader.bytes(length * sizeof(sock_filter)));
    std::vector<sock_filter> program(length);
    if (length > 0) memcpy(program.data(), bytes.data(), bytes.size());
    return program;
}

}  // namespace

Result<SeccompFile> parse_seccomp_file(std::span<const std::byte> contents) {
    Reader reader(contents);
    std::optional<std::vector<sock_filter>> loop, control, vcpu;
    const uint64_t count = TRY(reader.number());
    if (count > kMaxEntries) return fail("it is no compiled filter: seccompiler's are wanted");
    for (uint64_t i = 0; i < count; ++i) {
        const std::string name = TRY(read_name(reader));
        auto program = TRY(read_program(reader, name));
        if (name == "vmm")
            loop = std::move(program);
        else if (name == "vcpu")
            vcpu = std::move(program);
        else if (name == "api")
            control = std::move(program);
        else
            return fail("it has a filter for \"%s\", a thread that is not known (vmm, vcpu and api are)", name.c_str());
    }
    if (!reader.done()) return fail("there is more behind its last filter");
    if (!loop || !vcpu) return fail("it has no filter for \"%s\"", loop ? "vcpu" : "vmm");
    if (!control) control = loop;
    return SeccompFile{*std::move(loop), *std::move(control), *std::move(vcpu)};
}

}  // namespace wisp
