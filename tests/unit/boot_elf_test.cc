// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>

#include <catch2/catch.hpp>

#include "base/limits.h"
#include "tests/support/guest.h"
#include "tests/support/kernel_image.h"
#include "tests/support/temp_file.h"
#include "vmm/boot/load/elf.h"
#include "vmm/boot/load/kernel.h"

using namespace wisp;
using namespace wisp::boot;
using namespace wisp::test;
using Catch::Matchers::Contains;

namespace {

constexpr uint64_t kMiB = limits::kMiB;

/// A vmlinux in miniature: text, data with a ragged end and a bss, and a note segment.
ElfImage small_kernel() {
    ElfImage image;
    image.load(0x1000, 0x1000000, pattern(0x5000, 1));
    image.load(0x6000, 0x1200000, pattern(0x2345, 2), 0x4000);
    image.note(0x400, elf_note("GNU", 3, "build id"));
    return image;
}

Result<LoadedKernel> load(const GuestMemory& memory, const TempFile& file) {
    return load_kernel(memory, file.fd(), file.path());
}

/// The message with which an image is refused; "" where it is loaded.
std::string refusal(const std::string& bytes, uint64_t memory_bytes = 64 * kMiB) {
    const GuestMemory memory = machine_memory(memory_bytes);
    const TempFile file(bytes);
    const auto kernel = load(memory, file);
    if (kernel) return "";
    CHECK_THAT(kernel.error().message, Contains(file.path()));
    CHECK(kernel.error().message.find('\n') == std::string::npos);
    return kernel.error().message;
}

std::string refusal(const ElfImage& image, uint64_t memory_bytes = 64 * kMiB) {
    return refusal(image.bytes(), memory_bytes);
}

}  // namespace

TEST_CASE("boot: an ELF kernel is loaded where its segments say") {
    const ElfImage image = small_kernel();
    const TempFile file(image.bytes());
    const GuestMemory memory = machine_memory(64 * kMiB);
    const auto kernel = load(memory, file);
    REQUIRE(kernel);
    CHECK(kernel->protocol == BootProtocol::kLinux64);
    CHECK(kernel->entry.value == 0x1000000);
    CHECK(kernel->start.value == 0x1000000);
    CHECK(kernel->end.value == 0x1200000 + 0x2345 + 0x4000);
    CHECK(kernel->header.header == 0x53726448);
    CHECK(guest_bytes(memory, {0x1000000}, 0x5000) == image.parts[0].bytes);
    CHECK(guest_bytes(memory, {0x1200000}, 0x2345) == image.parts[1].bytes);
    // The rest of the page is zero, whatever the file has after the segment.
    CHECK(guest_bytes(memory, {0x1200000 + 0x2345}, 0x4000) == std::string(0x4000, '\0'));
}

TEST_CASE("boot: segments of any alignment are loaded and nothing beside them is written") {
    for (const uint64_t offset : {0x1000ull, 0x1001ull, 0x1234ull})
        for (const uint64_t address : {0x200000ull, 0x200234ull, 0x200fffull})
            for (const size_t size : {1ull, 0xfffull, 0x1000ull, 0x1001ull, 0x3210ull}) {
                ElfImage image;
                image.load(offset, address, pattern(size, 3), 17);
                const TempFile file(image.bytes() + "bytes after the segment");
                const GuestMemory memory = machine_memory(4 * kMiB);
                REQUIRE(load(memory, file));
                std::string expected(4 * kMiB, '\0');
                expected.replace(address, size, image.parts[0].bytes);
                CHECK(guest_bytes(memory, {0}, 4 * kMiB) == expected);
            }
}

TEST_CASE("boot: a PVH note decides for the PVH entry") {
    const auto protocol_of = [](std::string notes, uint64_t alignment = 4) {
        ElfImage image = small_kernel();
        image.note(0x500, std::move(notes), alignment);
        const GuestMemory memory = machine_memory(64 * kMiB);
        const TempFile file(image.bytes());
        const auto kernel = load(memory, file);
        REQUIRE(kernel);
        if (kernel->protocol == BootProtocol::kPvh) CHECK(kernel->entry.value == 0x1000040);
        return kernel->protocol;
    };
    const uint64_t wide = 0x1000040;
    const std::string_view wide_value(reinterpret_cast<const char*>(&wide), sizeof wide);
    CHECK(protocol_of(pvh_note(0x1000040)) == BootProtocol::kPvh);
    CHECK(protocol_of(elf_note("Linux", 1, "five") + pvh_note(0x1000040)) == BootProtocol::kPvh);
    CHECK(protocol_of(elf_note("Xen", 18, wide_value)) == BootProtocol::kPvh);
    CHECK(protocol_of(elf_note("GNU", 5, "12345", 8) + elf_note("Xen", 18, wide_value, 8), 8) == BootProtocol::kPvh);
    CHECK(protocol_of(pvh_note(0x1000040) + elf_note("Linux", 0x100, "salt")) == BootProtocol::kLinux64);
    CHECK(protocol_of(elf_note("Linux", 0x100, "salt") + pvh_note(0x1000040)) == BootProtocol::kLinux64);
    CHECK(protocol_of(elf_note("Linus", 0x100, "salt") + pvh_note(0x1000040)) == BootProtocol::kPvh);
    CHECK(protocol_of(elf_note("Xen", 17, "abcd")) == BootProtocol::kLinux64);
    CHECK(protocol_of(elf_note("Xem", 18, "abcd")) == BootProtocol::kLinux64);
    CHECK(protocol_of(elf_note("Xen", 18, "abc")) == BootProtocol::kLinux64);
}

TEST_CASE("boot: a Linux with a PVH note whose 64-bit entry is not in its image is entered by PVH") {
    ElfImage image = small_kernel();
    image.header.e_entry = 0x3000000;
    image.note(0x500, pvh_note(0x1000040) + elf_note("Linux", 0x100, "salt"));
    const GuestMemory memory = machine_memory(64 * kMiB);
    const TempFile file(image.bytes());
    const auto kernel = load(memory, file);
    REQUIRE(kernel);
    CHECK(kernel->protocol == BootProtocol::kPvh);
}

TEST_CASE("boot: notes cut anywhere end the search and nothing else") {
    const std::string notes = elf_note("GNU", 3, "build id") + pvh_note(0x1000040);
    for (size_t size = 0; size < notes.size(); ++size)
        CHECK_FALSE(find_notes(std::as_bytes(std::span(notes).first(size)), 4).pvh_entry);
    CHECK(find_notes(std::as_bytes(std::span(notes)), 4).pvh_entry == 0x1000040);

    for (const uint32_t length : {0xffffffffu, 0xfffffffcu, 0x80000000u, 0x7fffffffu}) {
        std::string bad = notes;
        memcpy(bad.data(), &length, 4);
        CHECK_FALSE(find_notes(std::as_bytes(std::span(bad)), 4).pvh_entry);
        bad = notes;
        memcpy(bad.data() + 4, &length, 4);
        CHECK_FALSE(find_notes(std::as_bytes(std::span(bad)), 8).pvh_entry);
    }
}

TEST_CASE("boot: an ELF kernel that is cut anywhere is refused") {
    ElfImage image = small_kernel();
    image.note(0x500, pvh_note(0x1000040));
    const std::string whole = image.bytes();
    REQUIRE(refusal(whole) == "");
    const size_t headers_end = sizeof(Elf64_Ehdr) + image.segments.size() * sizeof(Elf64_Phdr);
    for (size_t size = 0; size <= headers_end; ++size) {
        INFO(size);
        CHECK(refusal(whole.substr(0, size)) != "");
    }
    for (const size_t size : {0x500, 0x501, 0x510, 0x513, 0xfff, 0x1000, 0x1001, 0x5fff, 0x6000, 0x8344}) {
        INFO(size);
        CHECK_THAT(refusal(whole.substr(0, size)), Contains("truncated"));
    }
    CHECK_THAT(refusal(""), Contains("empty"));
    CHECK_THAT(refusal(whole.substr(0, 3)), Contains("neither an ELF kernel"));
    CHECK_THAT(refusal(whole.substr(0, 15)), Contains("truncated"));
    CHECK_THAT(refusal(whole.substr(0, 63)), Contains("truncated: it ends within the ELF header"));
    CHECK_THAT(refusal(whole.substr(0, 100)), Contains("truncated: its program headers"));
}

TEST_CASE("boot: what is not a kernel for this machine is refused by name") {
    CHECK_THAT(refusal("#!/bin/sh\n"), Contains("neither an ELF kernel (vmlinux) nor a bzImage"));
    const auto with = [](auto spoil) {
        ElfImage image = small_kernel();
        spoil(image.header);
        return refusal(image);
    };
    CHECK_THAT(with([](auto& header) { header.e_ident[EI_CLASS] = ELFCLASS32; }), Contains("not a 64-bit ELF file"));
    CHECK_THAT(with([](auto& header) { header.e_ident[EI_DATA] = ELFDATA2MSB; }), Contains("little-endian"));
    CHECK_THAT(with([](auto& header) { header.e_machine = EM_AARCH64; }), Contains("architecture"));
    CHECK_THAT(with([](auto& header) { header.e_type = ET_REL; }), Contains("not an executable"));
    CHECK_THAT(with([](auto& header) { header.e_type = ET_CORE; }), Contains("not an executable"));
    CHECK_THAT(with([](auto& header) { header.e_phnum = 0; }), Contains("no program headers"));
    CHECK_THAT(with([](auto& header) { header.e_phnum = 65; }), Contains("at most 64"));
    CHECK_THAT(with([](auto& header) { header.e_phnum = 0xffff; }), Contains("at most 64"));
    CHECK_THAT(with([](auto& header) { header.e_phentsize = 32; }), Contains("32 bytes each"));
    CHECK_THAT(with([](auto& header) { header.e_phoff = 0x7fffffff; }), Contains("truncated"));
    CHECK_THAT(with([](auto& header) { header.e_phoff = UINT64_MAX - 8; }), Contains("truncated"));
    CHECK_THAT(with([](auto& header) { header.e_entry = 0xfff000; }), Contains("lies in no loaded segment"));
    CHECK_THAT(with([](auto& header) { header.e_entry = 0x1202346; }), Contains("lies in no loaded segment"));
    CHECK_THAT(with([](auto& header) { header.e_entry = UINT64_MAX; }), Contains("lies in no loaded segment"));
}

TEST_CASE("boot: segments out of place are refused") {
    const auto with = [](auto spoil, uint64_t memory_bytes = 64 * kMiB) {
        ElfImage image = small_kernel();
        spoil(image.segments[1]);
        return refusal(image, memory_bytes);
    };
    CHECK_THAT(with([](auto& segment) { segment.p_memsz = 0x2344; }), Contains("only 9028 in memory"));
    CHECK_THAT(with([](auto& segment) { segment.p_offset = UINT64_MAX; }), Contains("truncated: segment 1"));
    CHECK_THAT(with([](auto& segment) { segment.p_filesz = segment.p_memsz = UINT64_MAX; }), Contains("truncated"));
    CHECK_THAT(with([](auto& segment) { segment.p_memsz = UINT64_MAX; }), Contains("segment 1 wraps"));
    CHECK_THAT(with([](auto& segment) { segment.p_paddr = UINT64_MAX - 0xfff; }), Contains("segment 1 wraps"));
    CHECK_THAT(with([](auto& segment) { segment.p_memsz = 1ull << 62; }), Contains("not all RAM"));
    CHECK_THAT(with([](auto& segment) { segment.p_paddr = 0; }), Contains("first MiB"));
    CHECK_THAT(with([](auto& segment) { segment.p_paddr = 0x7000; }), Contains("first MiB"));
    CHECK_THAT(with([](auto& segment) { segment.p_paddr = 0xfffff; }), Contains("first MiB"));
    CHECK_THAT(with([](auto& segment) { segment.p_paddr = 0x1004fff; }), Contains("segments 0 and 1 overlap"));
    CHECK_THAT(with([](auto& segment) { segment.p_paddr = 0x1000000; }), Contains("overlap"));
    CHECK_THAT(with([](auto& segment) { segment.p_paddr = 0x1000000 - 0x6000; }), Contains("overlap"));
    CHECK(with([](auto& segment) { segment.p_paddr = 0x1005000; }) == "");
    CHECK(with([](auto& segment) { segment.p_paddr = 0x1000000 - 0x6345; }) == "");
    CHECK_THAT(with([](auto&) {}, 17 * kMiB), Contains("not all RAM in a machine of 17 MiB"));
    // Across the MMIO hole, and in it.
    CHECK_THAT(with([](auto& segment) { segment.p_paddr = 0xbffff000; }, 4096 * kMiB), Contains("not all RAM"));
    CHECK_THAT(with([](auto& segment) { segment.p_paddr = 0xd0000000; }, 4096 * kMiB), Contains("not all RAM"));
    // Beyond what the boot page tables map.
    CHECK_THAT(with([](auto& segment) { segment.p_paddr = 0x40000000; }, 4096 * kMiB), Contains("first GiB"));

    ElfImage none;
    none.note(0x400, elf_note("GNU", 3, "build id"));
    CHECK_THAT(refusal(none), Contains("no segment to load"));
    ElfImage notes = small_kernel();
    notes.note(0x9000, std::string(limits::kMaxElfNotes + 1, '\0'));
    CHECK_THAT(refusal(notes), Contains("note segment 3 has 65537 bytes"));
    ElfImage entry = small_kernel();
    entry.note(0x500, pvh_note(0x3000000));
    CHECK_THAT(refusal(entry), Contains("PVH entry point 0x3000000 lies in no loaded segment"));
}

TEST_CASE("boot: a PVH kernel may lie above the first GiB, but is entered below 4 GiB") {
    ElfImage image;
    image.load(0x1000, 0x50000000, pattern(0x2000, 1));
    image.note(0x400, pvh_note(0x50000010));
    CHECK(refusal(image, 2048 * kMiB) == "");
    const uint64_t entry = 0x110000010;
    ElfImage high;
    high.load(0x1000, 0x110000000, pattern(0x2000, 1));
    high.note(0x400, elf_note("Xen", 18, {reinterpret_cast<const char*>(&entry), 8}));
    CHECK_THAT(refusal(high, 5120 * kMiB), Contains("out of reach of 32-bit code"));
}

TEST_CASE("boot: a kernel path that is not a file is refused") {
    const GuestMemory memory = machine_memory(4 * kMiB);
    auto folder = open_file("/", O_RDONLY);
    REQUIRE(folder);
    const auto kernel = load_kernel(memory, folder->get(), "/");
    REQUIRE_FALSE(kernel);
    CHECK_THAT(kernel.error().message, Contains("neither a regular file nor a block device"));
}
