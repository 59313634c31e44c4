// SPDX-License-Identifier: Apache-2.0
//
// Metrics as Firecracker writes them: an object for each group, counters as what was added since the line before, times
// as {"min_us", "max_us", "sum_us"}, of which the first two are those since the start of the process.
//
// Threads: control's.
#pragma once

#include <string>
#include <unordered_map>

#include "base/metrics.h"
#include "vmm/config/json_writer.h"

namespace wisp {

/// What the lines before have reported: "block.read_count" and its total.
using ReportedTotals = std::unordered_map<std::string, uint64_t>;

class JsonMetrics final : public MetricsVisitor {
public:
    /// Groups become members of the object that is open in `out`.
    JsonMetrics(config::JsonWriter& out, ReportedTotals& reported) : out_(out), reported_(reported) {}
    ~JsonMetrics() { end_group(); }

    /// Groups of devices that Wisp leaves out, all zero: programs that read the metrics expect them.
    void left_out_groups();

    void group(const char* name) override { begin_group(name); }
    void group_of(const char* name, std::string_view device) override;
    void group_of_all(const char* name) override { begin_group(name); }
    void count(const char* key, uint64_t total) override;
    void value(const char* key, uint64_t now) override;
    void latency(const char* key, const LatencySummary& total) override;
    void latency(const char* key, const Latency& total) override { latency(key, total.summary()); }
    void own_count(const char*, uint64_t) override {}
    void own_latency(const char*, const char*, const char*, const Latency&) override {}

private:
    void begin_group(std::string name);
    void end_group();
    uint64_t since_last_line(const char* key, uint64_t total);

    config::JsonWriter& out_;
    ReportedTotals& reported_;
    std::string group_;
};

}  // namespace wisp
