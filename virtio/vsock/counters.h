// SPDX-License-Identifier: Apache-2.0
//
// What happened on a vsock device since the machine was started, under the names that Firecracker's metrics have. The
// loop's thread counts; any thread may read.
#pragma once

#include "base/counter.h"

namespace wisp::virtio {

struct VsockCounters {
    Counter activate_fails;
    Counter rx_queue_event_fails;  ///< faulty buffers of the guest
    Counter tx_queue_event_fails;  ///< faulty packets of the guest
    Counter ev_queue_event_fails;
    Counter muxer_event_fails;  ///< host programs that could not be accepted, or asked wrongly
    Counter conn_event_fails;   ///< packets that do not fit their connection
    Counter rx_queue_event_count;
    Counter tx_queue_event_count;
    Counter rx_bytes_count;  ///< to the guest
    Counter tx_bytes_count;  ///< from the guest
    Counter rx_packets_count;
    Counter tx_packets_count;
    Counter conns_added;
    Counter conns_killed;  ///< by a time-out or a fault
    Counter conns_removed;
    Counter killq_resync;    ///< answers that were left out because too many waited
    Counter tx_flush_fails;  ///< data of the guest that was dropped: its reader had gone
    Counter tx_write_fails;
    Counter rx_read_fails;
};

}  // namespace wisp::virtio
