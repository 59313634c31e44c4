// SPDX-License-Identifier: Apache-2.0
//
// What happened on a drive since the machine was started, under the names that Firecracker's metrics have.
#pragma once

#include <cstdint>

#include "base/latency.h"

namespace wisp::virtio {

struct BlockCounters {
    uint64_t activate_fails = 0;
    uint64_t no_avail_buffer = 0;  ///< kicks that found nothing in the queue
    uint64_t execute_fails = 0;    ///< requests that the host could not do
    uint64_t invalid_reqs_count = 0;
    uint64_t flush_count = 0;
    uint64_t queue_event_count = 0;         ///< kicks
    uint64_t rate_limiter_event_count = 0;  ///< times that a limiter let go on
    uint64_t update_count = 0;              ///< files put under the running drive
    uint64_t update_fails = 0;
    uint64_t read_bytes = 0;
    uint64_t write_bytes = 0;
    uint64_t read_count = 0;
    uint64_t write_count = 0;
    uint64_t rate_limiter_throttled_events = 0;
    uint64_t io_engine_throttled_events = 0;  ///< times that all requests of the pool were in flight
    uint64_t remaining_reqs_count = 0;        ///< times that a turn ended with requests left in the queue
    Latency read_agg, write_agg;              ///< from the queue to the used ring
};

}  // namespace wisp::virtio
