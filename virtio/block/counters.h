// SPDX-License-Identifier: Apache-2.0
//
// Counts of a drive since the machine was started, under the names of Firecracker's metrics.
//
// Threads: the loop's writes, any may read.
#pragma once

#include "base/counter.h"
#include "base/latency.h"

namespace wisp::virtio {

struct BlockCounters {
    Counter activate_fails;
    Counter no_avail_buffer;  ///< kicks that found nothing in the queue
    Counter execute_fails;    ///< requests that the host could not do
    Counter invalid_reqs_count;
    Counter flush_count;
    Counter queue_event_count;         ///< kicks
    Counter rate_limiter_event_count;  ///< times that a limiter let requests continue
    Counter update_count;              ///< replacements of the file
    Counter update_fails;
    Counter read_bytes;
    Counter write_bytes;
    Counter read_count;
    Counter write_count;
    Counter rate_limiter_throttled_events;
    Counter io_engine_throttled_events;  ///< times that there was no room for a request
    Counter remaining_reqs_count;        ///< times that a turn ended with requests left in the queue
    Latency read_agg, write_agg;         ///< from the queue to the used ring
};

}  // namespace wisp::virtio
