// SPDX-License-Identifier: Apache-2.0
//
// What happened on a network interface since the machine was started, under the names that Firecracker's metrics have.
// The loop's thread counts; any thread may read.
#pragma once

#include "base/counter.h"
#include "base/latency.h"

namespace wisp::virtio {

struct NetCounters {
    Counter activate_fails;
    Counter no_rx_avail_buffer;  ///< times that the tap had frames and the guest no buffer
    Counter no_tx_avail_buffer;  ///< kicks of a transmit queue that had nothing in it
    Counter rx_queue_event_count;
    Counter rx_event_rate_limiter_count;
    Counter rx_rate_limiter_throttled;
    Counter rx_tap_event_count;
    Counter rx_bytes_count;    ///< from the tap to the guest, without virtio headers
    Counter rx_packets_count;  ///< the same in frames
    Counter rx_fails;          ///< frames from the tap that were dropped, and buffers that were no buffers
    Counter rx_count;          ///< frames to the guest, those of the metadata service included
    Counter tap_read_fails;
    Counter tap_write_fails;
    Counter tx_bytes_count;
    Counter tx_malformed_frames;
    Counter tx_fails;  ///< frames of the guest that were dropped
    Counter tx_count;  ///< frames of the guest, whatever became of them
    Counter tx_packets_count;
    Counter tx_queue_event_count;
    Counter tx_rate_limiter_event_count;
    Counter tx_rate_limiter_throttled;
    Counter tx_spoofed_mac_count;
    Counter tx_remaining_reqs_count;  ///< frames left in the queue when their turn was over

    Latency tap_write_agg;  ///< how long the tap took for a batch of frames
};

}  // namespace wisp::virtio
