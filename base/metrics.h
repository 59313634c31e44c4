// SPDX-License-Identifier: Apache-2.0
//
// MetricsVisitor: receives the totals of each part of the monitor, under the names of Firecracker's metrics. A visitor
// decides what to make of them: a line of JSON, or a page for Prometheus.
//
// Threads: control's. Totals that another thread counts are atomics (base/counter.h).
#pragma once

#include <cstdint>
#include <string_view>

#include "base/latency.h"

namespace wisp {

class MetricsVisitor {
public:
    /// What follows belongs to this group.
    virtual void group(const char* name) = 0;
    /// The same, of one device of several: "block", "rootfs".
    virtual void group_of(const char* name, std::string_view device) = 0;
    /// The same, of all devices of that name together.
    virtual void group_of_all(const char* name) = 0;

    /// Something that was counted since the start of the process.
    virtual void count(const char* key, uint64_t total) = 0;
    /// Something that has a value now.
    virtual void value(const char* key, uint64_t now) = 0;
    virtual void latency(const char* key, const LatencySummary& total) = 0;
    virtual void latency(const char* key, const Latency& total) = 0;

    /// A counter or latency that Firecracker does not have, with its label ("method", "GET").
    virtual void own_count(const char* name, uint64_t total) = 0;
    virtual void own_latency(const char* name, const char* label, const char* value, const Latency& total) = 0;

protected:
    ~MetricsVisitor() = default;
};

}  // namespace wisp
