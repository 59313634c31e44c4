// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/load/elf.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "vmm/boot/layout.h"
#include "vmm/boot/load/place.h"

namespace wisp::boot {

namespace {

constexpr uint32_t kXenPhys32Entry = 18;     // XEN_ELFNOTE_PHYS32_ENTRY (Xen public/elfnote.h)
constexpr uint32_t kLinuxBuildSalt = 0x100;  // LINUX_ELFNOTE_BUILD_SALT (kernel include/linux/build-salt.h)

unsigned long ul(uint64_t value) {
    return static_cast<unsigned long>(value);
}

/// A PT_LOAD segment whose numbers have been checked.
struct Segment {
    unsigned index;  // in the program headers, for messages
    uint64_t offset, file_size;
    uint64_t start, end;  // guest physical, with its bss
};

Result<Elf64_Ehdr> read_header(const ImageFile& file) {
    Elf64_Ehdr header;
    if (file.size() < EI_NIDENT) return file.refuse("truncated: it ends within the ELF identification");
    const auto* ident = reinterpret_cast<const unsigned char*>(file.head().data());
    if (ident[EI_CLASS] != ELFCLASS64) return file.refuse("not a 64-bit ELF file");
    if (ident[EI_DATA] != ELFDATA2LSB) return file.refuse("not a little-endian ELF file");
    if (file.head().size() < sizeof header) return file.refuse("truncated: it ends within the ELF header");
    memcpy(&header, file.head().data(), sizeof header);

    if (header.e_machine != EM_X86_64)
        return file.refuse("made for another architecture (ELF machine %u, not x86-64)", header.e_machine);
    if (header.e_type != ET_EXEC && header.e_type != ET_DYN)
        return file.refuse("not an executable (ELF type %u)", header.e_type);
    if (header.e_phnum == 0) return file.refuse("it has no program headers");
    if (header.e_phentsize != sizeof(Elf64_Phdr))
        return file.refuse("its program headers have %u bytes each, not %zu", header.e_phentsize, sizeof(Elf64_Phdr));
    if (header.e_phnum > limits::kMaxElfSegments)
        return file.refuse("it has %u program headers; at most %u are accepted", header.e_phnum,
                           limits::kMaxElfSegments);
    return header;
}

Result<std::vector<Elf64_Phdr>> read_program_headers(const ImageFile& file, const Elf64_Ehdr& header) {
    std::vector<Elf64_Phdr> headers(header.e_phnum);
    const auto bytes = std::as_writable_bytes(std::span(headers));
    if (!file.contains(header.e_phoff, bytes.size()))
        return file.refuse("truncated: its program headers (%zu bytes at offset %lu) lie beyond the end at %lu",
                           bytes.size(), ul(header.e_phoff), ul(file.size()));
    TRY(file.read(header.e_phoff, bytes, "program headers"));
    return headers;
}

Result<Segment> check_segment(const ImageFile& file, unsigned index, const Elf64_Phdr& header) {
    if (header.p_filesz > header.p_memsz)
        return file.refuse("segment %u has %lu bytes in the file but only %lu in memory", index, ul(header.p_filesz),
                           ul(header.p_memsz));
    if (!file.contains(header.p_offset, header.p_filesz))
        return file.refuse("truncated: segment %u (%lu bytes at offset %lu) lies beyond the end at %lu", index,
                           ul(header.p_filesz), ul(header.p_offset), ul(file.size()));
    const auto end = GuestAddress{header.p_paddr}.plus(header.p_memsz);
    if (!end) return file.refuse("segment %u wraps round the end of the address space", index);
    // Below 1 MiB lie the structures that the kernel is handed, and memory that its map calls reserved.
    if (header.p_paddr < kHighRam.value)
        return file.refuse("segment %u loads at %#lx; the first MiB is taken by boot structures", index,
                           ul(header.p_paddr));
    if (!file.memory().contains({header.p_paddr}, header.p_memsz))
        return file.refuse("segment %u takes %#lx to %#lx, which is not all RAM in a machine of %lu MiB", index,
                           ul(header.p_paddr), ul(end->value), ul(file.memory().total_size() >> 20));
    return Segment{index, header.p_offset, header.p_filesz, header.p_paddr, end->value};
}

Result<std::vector<Segment>> check_segments(const ImageFile& file, std::span<const Elf64_Phdr> headers) {
    std::vector<Segment> segments;
    for (unsigned i = 0; i < headers.size(); ++i) {
        if (headers[i].p_type != PT_LOAD || headers[i].p_memsz == 0) continue;
        const Segment segment = TRY(check_segment(file, i, headers[i]));
        for (const Segment& other : segments)
            if (segment.start < other.end && other.start < segment.end)
                return file.refuse("segments %u and %u overlap at %#lx", other.index, segment.index,
                                   ul(std::max(segment.start, other.start)));
        segments.push_back(segment);
    }
    if (segments.empty()) return file.refuse("it has no segment to load");
    return segments;
}

Result<ElfNotes> read_notes(const ImageFile& file, std::span<const Elf64_Phdr> headers) {
    ElfNotes found;
    for (unsigned i = 0; i < headers.size(); ++i) {
        const Elf64_Phdr& header = headers[i];
        if (header.p_type != PT_NOTE || header.p_filesz == 0) continue;
        if (header.p_filesz > limits::kMaxElfNotes)
            return file.refuse("note segment %u has %lu bytes; at most %zu are accepted", i, ul(header.p_filesz),
                               limits::kMaxElfNotes);
        if (!file.contains(header.p_offset, header.p_filesz))
            return file.refuse("truncated: note segment %u (%lu bytes at offset %lu) lies beyond the end at %lu", i,
                               ul(header.p_filesz), ul(header.p_offset), ul(file.size()));
        std::vector<std::byte> notes(header.p_filesz);
        TRY(file.read(header.p_offset, notes, "notes"));
        const ElfNotes more = find_notes(notes, header.p_align);
        if (!found.pvh_entry) found.pvh_entry = more.pvh_entry;
        found.is_linux |= more.is_linux;
    }
    return found;
}

/// An entry point must lie in bytes that came from the file. A bss holds only zeros.
bool is_code(std::span<const Segment> segments, uint64_t address) {
    return std::any_of(segments.begin(), segments.end(), [&](const Segment& segment) {
        return address >= segment.start && address - segment.start < segment.file_size;
    });
}

/// The setup header for an ELF image, which has none: the fields that Linux's 64-bit entry reads.
setup_header least_setup_header() {
    setup_header header{};
    header.boot_flag = 0xaa55;
    header.header = 0x53726448;  // "HdrS"
    header.version = 0x020c;
    header.loadflags = LOADED_HIGH;
    header.kernel_alignment = 0x1000000;
    return header;
}

}  // namespace

bool is_elf(std::span<const std::byte> head) {
    return head.size() >= SELFMAG && memcmp(head.data(), ELFMAG, SELFMAG) == 0;
}

ElfNotes find_notes(std::span<const std::byte> notes, uint64_t alignment) {
    ElfNotes found;
    // The ELF-64 specification aligns notes to 8 bytes, most tools align them to 4. The segment's p_align tells which.
    const uint64_t padding = alignment == 8 ? 8 : 4;
    while (notes.size() >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note;
        memcpy(&note, notes.data(), sizeof note);
        // Two 32-bit lengths: their sums cannot wrap in 64 bits.
        const uint64_t name_at = sizeof note;
        const uint64_t value_at = align_up(name_at + note.n_namesz, padding);
        const uint64_t value_end = value_at + note.n_descsz;
        if (value_end > notes.size()) break;

        const auto is = [&](uint32_t type, const char* owner) {
            const size_t size = strlen(owner) + 1;
            return note.n_type == type && note.n_namesz == size && memcmp(notes.data() + name_at, owner, size) == 0;
        };
        if (is(kLinuxBuildSalt, "Linux")) found.is_linux = true;
        if (!found.pvh_entry && is(kXenPhys32Entry, "Xen") && (note.n_descsz == 4 || note.n_descsz == 8)) {
            uint64_t entry = 0;
            memcpy(&entry, notes.data() + value_at, note.n_descsz);
            found.pvh_entry = entry;
        }
        notes = notes.subspan(std::min<uint64_t>(align_up(value_end, padding), notes.size()));
    }
    return found;
}

Result<LoadedKernel> load_elf(const ImageFile& file) {
    const Elf64_Ehdr header = TRY(read_header(file));
    const std::vector<Elf64_Phdr> headers = TRY(read_program_headers(file, header));
    const std::vector<Segment> segments = TRY(check_segments(file, headers));
    const ElfNotes notes = TRY(read_notes(file, headers));
    const auto end = std::ranges::max_element(segments, {}, &Segment::end)->end;
    // An image whose notes say that it is Linux has the 64-bit entry too. That entry saves 260 CPUID exits: after a PVH
    // entry Linux looks for Xen at every place where a hypervisor may have its CPUID leaves.
    const bool linux64 = notes.is_linux && is_code(segments, header.e_entry) && end <= kIdentityMapEnd;
    const std::optional<uint64_t> pvh_entry = linux64 ? std::nullopt : notes.pvh_entry;

    LoadedKernel kernel;
    kernel.protocol = pvh_entry ? BootProtocol::kPvh : BootProtocol::kLinux64;
    kernel.entry = {pvh_entry.value_or(header.e_entry)};
    kernel.start = {UINT64_MAX};
    kernel.header = least_setup_header();
    for (const Segment& segment : segments) {
        kernel.start = std::min(kernel.start, GuestAddress{segment.start});
        kernel.end = std::max(kernel.end, GuestAddress{segment.end});
    }
    if (!is_code(segments, kernel.entry.value))
        return file.refuse("its %s entry point %#lx lies in no loaded segment", pvh_entry ? "PVH" : "64-bit",
                           ul(kernel.entry.value));
    if (kernel.protocol == BootProtocol::kLinux64 && kernel.end.value > kIdentityMapEnd)
        return file.refuse("it ends at %#lx; the 64-bit boot protocol maps the first GiB only", ul(kernel.end.value));
    if (kernel.protocol == BootProtocol::kPvh && kernel.entry >= kMmioHole)
        return file.refuse("its PVH entry point %#lx is out of reach of 32-bit code", ul(kernel.entry.value));

    for (const Segment& segment : segments) TRY(file.copy_to_guest(segment.offset, segment.file_size, {segment.start}));
    return kernel;
}

}  // namespace wisp::boot
