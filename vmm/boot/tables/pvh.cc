// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/tables/pvh.h"

#include <vector>

#include "vmm/boot/layout.h"
#include "vmm/boot/load/place.h"
#include "vmm/boot/tables/zero_page.h"

namespace wisp::boot {

static_assert(kPvhStartInfo.value + sizeof(PvhStartInfo) <= kPvhModuleList.value);
static_assert(kPvhModuleList.value + sizeof(PvhModule) <= kPvhMemoryMap.value);

Result<void> write_pvh_start_info(const GuestMemory& memory, const LoadedInitrd& initrd) {
    std::vector<PvhMemoryMapEntry> entries;
    for (const MemoryMapEntry& entry : memory_map(memory))
        entries.push_back({.address = entry.start.value,
                           .size = entry.size,
                           .type = static_cast<uint32_t>(entry.type),
                           .reserved = {}});
    TRY(place_bytes(memory, kPvhMemoryMap, std::as_bytes(std::span(entries)), "PVH memory map"));

    PvhStartInfo info{};
    info.magic = kPvhMagic;
    info.version = 1;
    info.command_line_address = kCommandLine.value;
    info.rsdp_address = kRsdp.value;
    info.memory_map_address = kPvhMemoryMap.value;
    info.memory_map_entry_count = static_cast<uint32_t>(entries.size());
    if (initrd.size > 0) {
        PvhModule module{};
        module.address = initrd.start.value;
        module.size = initrd.size;
        TRY(place(memory, kPvhModuleList, module, "PVH module list"));
        info.module_list_address = kPvhModuleList.value;
        info.module_count = 1;
    }
    return place(memory, kPvhStartInfo, info, "PVH start info");
}

}  // namespace wisp::boot
