// SPDX-License-Identifier: Apache-2.0
#include "base/bus.h"

#include <algorithm>

namespace wisp {

Result<void> Bus::insert(uint64_t base, uint64_t size, BusDevice& device, const char* name) {
    for (const Entry& entry : entries_)
        if (base < entry.base + entry.size && entry.base < base + size)
            return fail("%s at 0x%lx overlaps %s at 0x%lx", name, static_cast<unsigned long>(base), entry.name,
                        static_cast<unsigned long>(entry.base));
    entries_.push_back({base, size, &device, name});
    return {};
}

const Bus::Entry* Bus::find(uint64_t address, size_t size) const {
    for (const Entry& entry : entries_)
        if (address >= entry.base && address - entry.base < entry.size && size <= entry.size - (address - entry.base))
            return &entry;
    return nullptr;
}

bool Bus::read(uint64_t address, std::span<std::byte> data) const {
    std::ranges::fill(data, std::byte{0xff});
    const Entry* entry = find(address, data.size());
    if (entry) entry->device->handle_read(address - entry->base, data);
    return entry != nullptr;
}

bool Bus::write(uint64_t address, std::span<const std::byte> data) const {
    const Entry* entry = find(address, data.size());
    if (entry) entry->device->handle_write(address - entry->base, data);
    return entry != nullptr;
}

}  // namespace wisp
