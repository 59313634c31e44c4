// SPDX-License-Identifier: Apache-2.0
//
// The start info structures of the PVH boot protocol.
// Source: Xen docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/endian.h"
#include "base/guest_memory.h"
#include "base/result.h"
#include "vmm/boot/load/initrd.h"

namespace wisp::boot {

inline constexpr uint32_t kPvhMagic = 0x336ec578;

struct PvhStartInfo {
    le32 magic;
    le32 version;  // 1: with a memory map
    le32 flags;
    le32 module_count;
    le64 module_list_address;
    le64 command_line_address;
    le64 rsdp_address;
    le64 memory_map_address;
    le32 memory_map_entry_count;
    le32 reserved;
};
static_assert(sizeof(PvhStartInfo) == 56 && offsetof(PvhStartInfo, memory_map_address) == 40);

struct PvhModule {
    le64 address;
    le64 size;
    le64 command_line_address;
    le64 reserved;
};
static_assert(sizeof(PvhModule) == 32);

struct PvhMemoryMapEntry {
    le64 address;
    le64 size;
    le32 type;
    le32 reserved;
};
static_assert(sizeof(PvhMemoryMapEntry) == 24);

/// Writes start info, the initrd as the only module, and the memory map to their places in the layout.
Result<void> write_pvh_start_info(const GuestMemory& memory, const LoadedInitrd& initrd);

}  // namespace wisp::boot
