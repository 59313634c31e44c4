// SPDX-License-Identifier: Apache-2.0
//
// Loading an ELF kernel (vmlinux, or any kernel with a PVH note). Internal to vmm/boot.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/result.h"
#include "vmm/boot/image_file.h"
#include "vmm/boot/kernel.h"

namespace wisp::boot {

bool is_elf(std::span<const std::byte> head);

Result<LoadedKernel> load_elf(ImageFile& file);

/// The entry point in a note segment's XEN_ELFNOTE_PHYS32_ENTRY, if it has one. `alignment` is the segment's p_align.
/// Notes that do not fit in the segment end the search.
std::optional<uint64_t> find_pvh_entry(std::span<const std::byte> notes, uint64_t alignment);

}  // namespace wisp::boot
