// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/tables/zero_page.h"

#include <algorithm>

#include "base/check.h"
#include "base/limits.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/load/place.h"

namespace wisp::boot {

static_assert(sizeof(boot_params) == limits::kPageSize);

std::vector<MemoryMapEntry> memory_map(const GuestMemory& memory) {
    std::vector<MemoryMapEntry> map;
    map.push_back({{0}, kSystemArea.value, MemoryType::kRam});
    map.push_back({kSystemArea, kHighRam.value - kSystemArea.value, MemoryType::kReserved});
    for (const GuestRegion& region : memory.regions()) {
        const GuestAddress start = std::max(region.start, kHighRam);
        if (start.value < region.end()) map.push_back({start, region.end() - start.value, MemoryType::kRam});
    }
    return map;
}

boot_params make_zero_page(const GuestMemory& memory, const LoadedKernel& kernel, const LoadedInitrd& initrd,
                           uint32_t command_line_size) {
    boot_params page{};
    page.hdr = kernel.header;
    page.hdr.type_of_loader = 0xff;  // a boot loader without a number of its own
    page.hdr.cmd_line_ptr = static_cast<uint32_t>(kCommandLine.value);
    // A bzImage says how long a line it takes; an ELF kernel is told how long this one is.
    if (page.hdr.cmdline_size == 0) page.hdr.cmdline_size = command_line_size;
    // load_initrd() stays below the MMIO hole: 32 bits hold it.
    page.hdr.ramdisk_image = static_cast<uint32_t>(initrd.start.value);
    page.hdr.ramdisk_size = static_cast<uint32_t>(initrd.size);
    page.acpi_rsdp_addr = kRsdp.value;

    const std::vector<MemoryMapEntry> map = memory_map(memory);
    CHECK(map.size() <= E820_MAX_ENTRIES_ZEROPAGE);
    page.e820_entries = static_cast<uint8_t>(map.size());
    for (size_t i = 0; i < map.size(); ++i)
        page.e820_table[i] = {map[i].start.value, map[i].size, static_cast<uint32_t>(map[i].type)};
    return page;
}

Result<void> write_zero_page(const GuestMemory& memory, const boot_params& zero_page) {
    return place(memory, kZeroPage, zero_page, "zero page");
}

}  // namespace wisp::boot
