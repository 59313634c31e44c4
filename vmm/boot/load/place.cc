// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/load/place.h"

#include "base/check.h"
#include "base/fd.h"

namespace wisp::boot {

Result<void> place_bytes(const GuestMemory& memory, GuestAddress address, std::span<const std::byte> bytes,
                         const char* what) {
    if (memory.write(address, bytes)) return {};
    return fail("cannot place the %s (%zu bytes at %#lx): the machine has %lu KiB of memory", what, bytes.size(),
                static_cast<unsigned long>(address.value), static_cast<unsigned long>(memory.total_size() >> 10));
}

Result<size_t> read_into_guest(const GuestMemory& memory, GuestAddress address, int fd, uint64_t offset, uint64_t size,
                               const std::string& path) {
    const auto place = memory.writable(address, size);
    CHECK(place);
    return read_at(fd, place->host_address(), size, offset, path);
}

uint8_t checksum_of(std::span<const std::byte> bytes) {
    unsigned sum = 0;
    for (const std::byte byte : bytes) sum += std::to_integer<unsigned>(byte);
    return static_cast<uint8_t>(-sum);
}

}  // namespace wisp::boot
