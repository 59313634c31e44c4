// SPDX-License-Identifier: Apache-2.0
//
// The zero page (struct boot_params) of the Linux boot protocol, and the memory map that both boot protocols give.
// Source: kernel Documentation/x86/boot.rst and zero-page.rst.
#pragma once

#include <asm/bootparam.h>

#include <cstdint>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"
#include "vmm/boot/load/initrd.h"
#include "vmm/boot/load/kernel.h"

namespace wisp::boot {

/// Memory types of the e820 map; PVH uses the same numbers (Xen public/arch-x86/hvm/start_info.h).
enum class MemoryType : uint32_t { kRam = 1, kReserved = 2 };

struct MemoryMapEntry {
    GuestAddress start;
    uint64_t size = 0;
    MemoryType type = MemoryType::kRam;
};

/// The guest's memory map: low RAM, the reserved system area, then each region's RAM from 1 MiB.
std::vector<MemoryMapEntry> memory_map(const GuestMemory& memory);

/// The zero page for a kernel, its initrd and a command line of `command_line_size` bytes without the NUL.
boot_params make_zero_page(const GuestMemory& memory, const LoadedKernel& kernel, const LoadedInitrd& initrd,
                           uint32_t command_line_size);

/// Writes the zero page to kZeroPage.
Result<void> write_zero_page(const GuestMemory& memory, const boot_params& zero_page);

}  // namespace wisp::boot
