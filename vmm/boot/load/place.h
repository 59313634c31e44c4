// SPDX-License-Identifier: Apache-2.0
//
// Copies boot structures and files into guest memory. Internal to vmm/boot.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wisp::boot {

/// Copies `bytes` to `address`; the error says that the machine's memory ends before `what`.
Result<void> place_bytes(const GuestMemory& memory, GuestAddress address, std::span<const std::byte> bytes,
                         const char* what);

/// Reads [offset, offset + size) of a file into guest memory at `address`, where there is RAM, straight from the page
/// cache. Returns the bytes read: fewer where the file ends. `path` is for messages.
Result<size_t> read_into_guest(const GuestMemory& memory, GuestAddress address, int fd, uint64_t offset, uint64_t size,
                               const std::string& path);

template <class T>
    requires std::is_trivially_copyable_v<T>
Result<void> place(const GuestMemory& memory, GuestAddress address, const T& value, const char* what) {
    return place_bytes(memory, address, std::as_bytes(std::span(&value, 1)), what);
}

/// The checksum byte of a firmware table: the sum of `bytes` and this byte is 0 modulo 256.
uint8_t checksum_of(std::span<const std::byte> bytes);

constexpr uint64_t align_down(uint64_t value, uint64_t alignment) {
    return value & ~(alignment - 1);
}
/// `value` must be at most 2^64 - alignment.
constexpr uint64_t align_up(uint64_t value, uint64_t alignment) {
    return align_down(value + alignment - 1, alignment);
}

}  // namespace wisp::boot
