// SPDX-License-Identifier: Apache-2.0
//
// What clients of the API can make the monitor hold and wait for. The bound of a body is an argument of the process.
#pragma once

#include <cstddef>
#include <cstdint>

namespace wisp::api {

inline constexpr unsigned kMaxAcceptsPerTurn = 16;  // of the event loop
inline constexpr size_t kMaxConnections = 128;
inline constexpr size_t kMaxPath = 1024;      // bytes; Firecracker refuses longer lines, too
inline constexpr size_t kMaxHead = 16 << 10;  // bytes of path and headers
inline constexpr size_t kReadChunk = 4096;    // bytes read at a time
inline constexpr unsigned kServeBudget = 64;  // steps of one connection before others have their turn
inline constexpr uint64_t kStallTimeout_ns =
    10'000'000'000;  // for a request to arrive whole, and for an answer to leave

}  // namespace wisp::api
