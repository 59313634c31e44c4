// SPDX-License-Identifier: Apache-2.0
//
// What happened on a network interface since the machine was started, under the names that Firecracker's metrics have.
#pragma once

#include <cstdint>

#include "base/latency.h"

namespace wisp::virtio {

struct NetCounters {
    uint64_t activate_fails = 0;
    uint64_t no_rx_avail_buffer = 0;  ///< times that the tap had frames and the guest no buffer
    uint64_t no_tx_avail_buffer = 0;  ///< kicks of a transmit queue that had nothing in it
    uint64_t rx_queue_event_count = 0;
    uint64_t rx_event_rate_limiter_count = 0;
    uint64_t rx_rate_limiter_throttled = 0;
    uint64_t rx_tap_event_count = 0;
    uint64_t rx_bytes_count = 0;    ///< from the tap to the guest, without virtio headers
    uint64_t rx_packets_count = 0;  ///< the same in frames
    uint64_t rx_fails = 0;          ///< frames from the tap that were dropped, and buffers that were no buffers
    uint64_t rx_count = 0;          ///< frames to the guest, those of the metadata service included
    uint64_t tap_read_fails = 0;
    uint64_t tap_write_fails = 0;
    uint64_t tx_bytes_count = 0;
    uint64_t tx_malformed_frames = 0;
    uint64_t tx_fails = 0;  ///< frames of the guest that were dropped
    uint64_t tx_count = 0;  ///< frames of the guest, whatever became of them
    uint64_t tx_packets_count = 0;
    uint64_t tx_queue_event_count = 0;
    uint64_t tx_rate_limiter_event_count = 0;
    uint64_t tx_rate_limiter_throttled = 0;
    uint64_t tx_spoofed_mac_count = 0;
    uint64_t tx_remaining_reqs_count = 0;  ///< frames left in the queue when their turn was over

    Latency tap_write_agg;  ///< how long the tap took for a batch of frames
};

}  // namespace wisp::virtio
