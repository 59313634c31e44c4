// SPDX-License-Identifier: Apache-2.0
#include "tests/support/guest.h"

#include <catch2/catch.hpp>

#include "vmm/boot/layout.h"

namespace wisp::test {

GuestMemory machine_memory(uint64_t bytes) {
    auto memory = GuestMemory::create(boot::memory_ranges(bytes), MemoryBacking::anonymous());
    REQUIRE(memory.has_value());
    return *std::move(memory);
}

std::string guest_bytes(const GuestMemory& memory, GuestAddress address, size_t size) {
    std::string bytes(size, '\0');
    REQUIRE(memory.read(address, std::as_writable_bytes(std::span(bytes))));
    return bytes;
}

}  // namespace wisp::test
