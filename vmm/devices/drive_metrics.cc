// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/drive_metrics.h"

namespace wisp {

namespace {

using virtio::BlockCounters;

constexpr struct {
    const char* key;
    Counter BlockCounters::* counter;  // null: cannot happen here
} kKeys[] = {
    {"activate_fails", &BlockCounters::activate_fails},
    {"cfg_fails", nullptr},  // a driver has nothing to configure
    {"no_avail_buffer", &BlockCounters::no_avail_buffer},
    {"event_fails", nullptr},  // an eventfd that is watched does not fail
    {"execute_fails", &BlockCounters::execute_fails},
    {"invalid_reqs_count", &BlockCounters::invalid_reqs_count},
    {"flush_count", &BlockCounters::flush_count},
    {"queue_event_count", &BlockCounters::queue_event_count},
    {"rate_limiter_event_count", &BlockCounters::rate_limiter_event_count},
    {"update_count", &BlockCounters::update_count},
    {"update_fails", &BlockCounters::update_fails},
    {"read_bytes", &BlockCounters::read_bytes},
    {"write_bytes", &BlockCounters::write_bytes},
    {"read_count", &BlockCounters::read_count},
    {"write_count", &BlockCounters::write_count},
    {"rate_limiter_throttled_events", &BlockCounters::rate_limiter_throttled_events},
    {"io_engine_throttled_events", &BlockCounters::io_engine_throttled_events},
    {"remaining_reqs_count", &BlockCounters::remaining_reqs_count},
};

}  // namespace

void visit_block_counters(const BlockCounters& counters, MetricsVisitor& visitor) {
    for (const auto& [key, counter] : kKeys) visitor.count(key, counter ? (counters.*counter).value() : 0);
    visitor.latency("read_agg", counters.read_agg);
    visitor.latency("write_agg", counters.write_agg);
}

void add_block_counters(BlockCounters& sum, const BlockCounters& part) {
    for (const auto& [key, counter] : kKeys)
        if (counter) sum.*counter += part.*counter;
    sum.read_agg.add(part.read_agg);
    sum.write_agg.add(part.write_agg);
}

}  // namespace wisp
