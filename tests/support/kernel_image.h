// SPDX-License-Identifier: Apache-2.0
//
// Kernel images made by hand: an ELF or bzImage file whose every field a test may spoil before it is written.
#pragma once

#include <asm/bootparam.h>
#include <elf.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace wisp::test {

/// An ELF file: header, program headers, then the segments' bytes where their headers say. Starts as a valid vmlinux
/// without segments.
struct ElfImage {
    struct Part {
        uint64_t offset;
        std::string bytes;
    };
    Elf64_Ehdr header;
    std::vector<Elf64_Phdr> segments;
    std::vector<Part> parts;

    ElfImage();
    /// A PT_LOAD segment of these bytes at `offset` in the file and `address` in memory, with `bss` zeros after it.
    Elf64_Phdr& load(uint64_t offset, uint64_t address, std::string bytes, uint64_t bss = 0);
    /// A PT_NOTE segment.
    Elf64_Phdr& note(uint64_t offset, std::string bytes, uint64_t alignment = 4);

    std::string bytes() const;
};

/// One ELF note, padded to `alignment`.
std::string elf_note(std::string_view name, uint32_t type, std::string_view value, uint64_t alignment = 4);
/// A XEN_ELFNOTE_PHYS32_ENTRY note for this address.
std::string pvh_note(uint32_t entry);

/// A bzImage: boot sector and setup code (empty but for the header), then the kernel proper.
struct BzImage {
    setup_header header{};
    std::string kernel;  ///< a multiple of 16 bytes

    /// A valid one that loads at 1 MiB and unpacks into 1 MiB.
    BzImage();
    std::string bytes() const;
};

/// `size` bytes that differ from place to place, from a seed.
std::string pattern(size_t size, uint32_t seed);

}  // namespace wisp::test
