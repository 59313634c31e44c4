// SPDX-License-Identifier: Apache-2.0
#include "tests/support/kernel_image.h"

#include <cstddef>
#include <cstring>
#include <random>

namespace wisp::test {

namespace {

void put(std::string& file, uint64_t offset, const void* data, size_t size) {
    if (file.size() < offset + size) file.resize(offset + size);
    memcpy(file.data() + offset, data, size);
}

}  // namespace

ElfImage::ElfImage() : header{} {
    memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_ehsize = sizeof header;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
}

Elf64_Phdr& ElfImage::load(uint64_t offset, uint64_t address, std::string bytes, uint64_t bss) {
    Elf64_Phdr segment{};
    segment.p_type = PT_LOAD;
    segment.p_flags = PF_R | PF_X;
    segment.p_offset = offset;
    segment.p_paddr = address;
    segment.p_vaddr = 0xffffffff80000000 + address;
    segment.p_filesz = bytes.size();
    segment.p_memsz = bytes.size() + bss;
    segment.p_align = 4096;
    if (header.e_entry == 0) header.e_entry = address;
    parts.push_back({offset, std::move(bytes)});
    segments.push_back(segment);
    ++header.e_phnum;
    return segments.back();
}

Elf64_Phdr& ElfImage::note(uint64_t offset, std::string bytes, uint64_t alignment) {
    Elf64_Phdr segment{};
    segment.p_type = PT_NOTE;
    segment.p_offset = offset;
    segment.p_filesz = segment.p_memsz = bytes.size();
    segment.p_align = alignment;
    parts.push_back({offset, std::move(bytes)});
    segments.push_back(segment);
    ++header.e_phnum;
    return segments.back();
}

std::string ElfImage::bytes() const {
    std::string file;
    for (const Part& part : parts) put(file, part.offset, part.bytes.data(), part.bytes.size());
    put(file, 0, &header, sizeof header);
    put(file, sizeof header, segments.data(), segments.size() * sizeof(Elf64_Phdr));
    return file;
}

std::string elf_note(std::string_view name, uint32_t type, std::string_view value, uint64_t alignment) {
    const Elf64_Nhdr note{static_cast<uint32_t>(name.size() + 1), static_cast<uint32_t>(value.size()), type};
    std::string bytes(reinterpret_cast<const char*>(&note), sizeof note);
    bytes.append(name).push_back('\0');
    while (bytes.size() % alignment) bytes.push_back('\0');
    bytes.append(value);
    while (bytes.size() % alignment) bytes.push_back('\0');
    return bytes;
}

std::string pvh_note(uint32_t entry) {
    return elf_note("Xen", 18, {reinterpret_cast<const char*>(&entry), sizeof entry});
}

BzImage::BzImage() : kernel(pattern(0x10000, 7)) {
    header.setup_sects = 7;  // with the boot sector 8: the kernel starts at a page
    header.boot_flag = 0xaa55;
    header.jump = 0x6aeb;  // its second byte is the header's length from 0x202
    header.header = 0x53726448;
    header.version = 0x020f;
    header.loadflags = LOADED_HIGH;
    header.syssize = static_cast<uint32_t>(kernel.size() / 16);
    header.initrd_addr_max = 0x7fffffff;
    header.kernel_alignment = 0x100000;
    header.relocatable_kernel = 1;
    header.xloadflags = XLF_KERNEL_64;
    header.cmdline_size = 2047;
    header.pref_address = 0x100000;
    header.init_size = 0x100000;
}

std::string BzImage::bytes() const {
    std::string file;
    put(file, 0x1f1, &header, sizeof header);
    put(file, 512 * (header.setup_sects + 1u), kernel.data(), kernel.size());
    return file;
}

std::string pattern(size_t size, uint32_t seed) {
    std::minstd_rand random(seed);
    std::string bytes(size, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random() >> 8);
    return bytes;
}

}  // namespace wisp::test
