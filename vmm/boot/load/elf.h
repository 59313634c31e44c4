// SPDX-License-Identifier: Apache-2.0
//
// Loading an ELF kernel (vmlinux, or any kernel with a PVH note). Internal to vmm/boot.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/result.h"
#include "vmm/boot/load/image_file.h"
#include "vmm/boot/load/kernel.h"

namespace wisp::boot {

bool is_elf(std::span<const std::byte> head);

Result<LoadedKernel> load_elf(const ImageFile& file);

/// What the notes of a kernel say that matters here.
struct ElfNotes {
    std::optional<uint64_t> pvh_entry;  ///< XEN_ELFNOTE_PHYS32_ENTRY
    bool is_linux = false;              ///< it has Linux's own build-salt note, as every Linux since 4.19
};
/// `alignment` is the note segment's p_align. Notes that do not fit in the segment end the search.
ElfNotes find_notes(std::span<const std::byte> notes, uint64_t alignment);

}  // namespace wisp::boot
