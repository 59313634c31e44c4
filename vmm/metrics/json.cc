// SPDX-License-Identifier: Apache-2.0
#include "vmm/metrics/json.h"

#include <initializer_list>
#include <utility>

namespace wisp {

namespace {

// "…_agg" is a time, everything else a counter.
struct LeftOut {
    const char* group;
    std::initializer_list<const char*> keys;
};
constexpr LeftOut kLeftOut[] = {
    {"balloon",
     {"activate_fails", "inflate_count", "stats_updates_count", "stats_update_fails", "deflate_count", "event_fails",
      "free_page_report_count", "free_page_report_freed", "free_page_report_fails", "free_page_hint_count",
      "free_page_hint_freed", "free_page_hint_fails"}},
    {"entropy",
     {"activate_fails", "entropy_event_fails", "entropy_event_count", "entropy_bytes", "host_rng_fails",
      "entropy_rate_limiter_throttled", "rate_limiter_event_count"}},
    {"pmem",
     {"activate_fails", "cfg_fails", "event_fails", "queue_event_count", "rate_limiter_throttled_events",
      "rate_limiter_event_count"}},
    {"memory_hotplug",
     {"activate_fails", "queue_event_fails", "queue_event_count", "plug_agg", "plug_count", "plug_bytes", "plug_fails",
      "unplug_agg", "unplug_count", "unplug_bytes", "unplug_fails", "unplug_discard_fails", "unplug_all_agg",
      "unplug_all_count", "unplug_all_fails", "state_agg", "state_count", "state_fails"}},
};

}  // namespace

void JsonMetrics::left_out_groups() {
    for (const LeftOut& device : kLeftOut) {
        begin_group(device.group);
        for (const char* key : device.keys) {
            if (std::string_view(key).ends_with("_agg"))
                latency(key, LatencySummary{});
            else
                count(key, 0);
        }
    }
}

void JsonMetrics::begin_group(std::string name) {
    end_group();
    group_ = std::move(name);
    out_.key(group_);
    out_.begin_object();
}

void JsonMetrics::end_group() {
    if (!group_.empty()) out_.end_object();
    group_.clear();
}

void JsonMetrics::group_of(const char* name, std::string_view device) {
    begin_group(std::string(name) + "_" + std::string(device));
}

uint64_t JsonMetrics::since_last_line(const char* key, uint64_t total) {
    if (total == 0) return 0;  // most are, and need not be remembered
    return total - std::exchange(reported_[group_ + "." + key], total);
}

void JsonMetrics::count(const char* key, uint64_t total) {
    out_.key(key);
    out_.number(since_last_line(key, total));
}

void JsonMetrics::value(const char* key, uint64_t now) {
    out_.key(key);
    out_.number(now);
}

void JsonMetrics::latency(const char* key, const LatencySummary& total) {
    out_.key(key);
    out_.begin_object();
    value("min_us", total.min_us);
    value("max_us", total.max_us);
    value("sum_us", since_last_line(key, total.sum_us));
    out_.end_object();
}

}  // namespace wisp
