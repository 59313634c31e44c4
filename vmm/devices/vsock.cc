// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/vsock.h"

#include <sys/resource.h>

#include <algorithm>

#include "base/limits.h"

namespace wisp {

namespace {

// Each connection is a descriptor, and the usual soft limit of 1,024 is less than they can be. Where the hard limit is
// low too, connections beyond it are refused.
void allow_descriptors(rlim_t count) {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= count) return;
    limit.rlim_cur = std::min(count, limit.rlim_max);
    setrlimit(RLIMIT_NOFILE, &limit);
}

using virtio::VsockCounters;
constexpr struct {
    const char* key;
    Counter VsockCounters::* counter;
} kMetrics[] = {
    {"activate_fails", &VsockCounters::activate_fails},
    {"cfg_fails", nullptr},  // a driver has nothing to configure
    {"rx_queue_event_fails", &VsockCounters::rx_queue_event_fails},
    {"tx_queue_event_fails", &VsockCounters::tx_queue_event_fails},
    {"ev_queue_event_fails", &VsockCounters::ev_queue_event_fails},
    {"muxer_event_fails", &VsockCounters::muxer_event_fails},
    {"conn_event_fails", &VsockCounters::conn_event_fails},
    {"rx_queue_event_count", &VsockCounters::rx_queue_event_count},
    {"tx_queue_event_count", &VsockCounters::tx_queue_event_count},
    {"rx_bytes_count", &VsockCounters::rx_bytes_count},
    {"tx_bytes_count", &VsockCounters::tx_bytes_count},
    {"rx_packets_count", &VsockCounters::rx_packets_count},
    {"tx_packets_count", &VsockCounters::tx_packets_count},
    {"conns_added", &VsockCounters::conns_added},
    {"conns_killed", &VsockCounters::conns_killed},
    {"conns_removed", &VsockCounters::conns_removed},
    {"killq_resync", &VsockCounters::killq_resync},
    {"tx_flush_fails", &VsockCounters::tx_flush_fails},
    {"tx_write_fails", &VsockCounters::tx_write_fails},
    {"rx_read_fails", &VsockCounters::rx_read_fails},
};

}  // namespace

void visit_vsock_counters(const VsockCounters& counters, MetricsVisitor& visitor) {
    visitor.group("vsock");
    for (const auto& [key, counter] : kMetrics) visitor.count(key, counter ? (counters.*counter).value() : 0);
}

Result<std::unique_ptr<virtio::Vsock>> create_vsock(Loop& loop, const config::Vsock& vsock,
                                                    std::shared_ptr<UnixListener> listener) {
    allow_descriptors(limits::kVsockDescriptors);
    return virtio::Vsock::create(loop, {vsock.guest_cid, vsock.uds_path}, std::move(listener));
}

}  // namespace wisp
