// SPDX-License-Identifier: Apache-2.0
//
// Guest memory for tests, and its bytes as strings.
#pragma once

#include <cstring>
#include <string>

#include "base/guest_memory.h"

namespace wisp::test {

/// RAM as a machine of that size has it (not reserved: a test may ask for more than the host has).
GuestMemory machine_memory(uint64_t bytes);

/// The bytes of a range, which must lie in one region.
std::string guest_bytes(const GuestMemory& memory, GuestAddress address, size_t size);

/// A wire structure, which must lie in one region.
template <class T>
T guest_load(const GuestMemory& memory, GuestAddress address) {
    T value;
    const std::string bytes = guest_bytes(memory, address, sizeof value);
    memcpy(&value, bytes.data(), sizeof value);
    return value;
}

}  // namespace wisp::test
