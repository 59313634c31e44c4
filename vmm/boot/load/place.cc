// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/load/place.h"

namespace wisp::boot {

Result<void> place_bytes(const GuestMemory& memory, GuestAddress address, std::span<const std::byte> bytes,
                         const char* what) {
    if (memory.write(address, bytes)) return {};
    return fail("cannot place the %s (%zu bytes at %#lx): the machine has %lu KiB of memory", what, bytes.size(),
                static_cast<unsigned long>(address.value), static_cast<unsigned long>(memory.total_size() >> 10));
}

uint8_t checksum_of(std::span<const std::byte> bytes) {
    unsigned sum = 0;
    for (const std::byte byte : bytes) sum += std::to_integer<unsigned>(byte);
    return static_cast<uint8_t>(-sum);
}

}  // namespace wisp::boot
