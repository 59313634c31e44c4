// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/layout.h"

#include <algorithm>

namespace wisp::boot {

std::vector<GuestMemory::Range> memory_ranges(uint64_t memory_bytes) {
    const uint64_t below = std::min(memory_bytes, kMmioHole.value);
    std::vector<GuestMemory::Range> ranges;
    if (below > 0) ranges.push_back({{0}, below});
    if (memory_bytes > below) ranges.push_back({kMmioHoleEnd, memory_bytes - below});
    return ranges;
}

}  // namespace wisp::boot
