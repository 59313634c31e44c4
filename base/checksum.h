// SPDX-License-Identifier: Apache-2.0
//
// The checksum of saved state and of chunks of saved memory: XXH3, 64 bits. It finds damage (a flipped bit, a lost
// sector, a swapped file). It is no defence against a person who forges a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace wisp {

/// XXH3-64 of `bytes`. To continue over several pieces, pass the checksum of the piece before as `seed`.
uint64_t checksum(std::span<const std::byte> bytes, uint64_t seed = 0);

}  // namespace wisp
