// SPDX-License-Identifier: Apache-2.0
//
// PrometheusMetrics: the metrics as Prometheus scrapes them (its text exposition format 0.0.4). Counters are totals
// since the start of the process, named wisp_<group>_<key>_total after Firecracker's keys; a device's id is the label
// `id`; times are in seconds, whatever the key's unit is, and histograms where one is kept.
// tests/support/prometheus_lint.py holds the page to Prometheus' conventions.
//
// Threads: one, any.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "base/metrics.h"

namespace wisp {

class PrometheusMetrics final : public MetricsVisitor {
public:
    void group(const char* name) override { begin(name, {}); }
    void group_of(const char* name, std::string_view device) override { begin(name, device); }
    void group_of_all(const char*) override { skip_ = true; }  // a query can add
    void count(const char* key, uint64_t total) override;
    void value(const char* key, uint64_t now) override;
    void latency(const char* key, const LatencySummary& total) override;
    void latency(const char* key, const Latency& total) override;
    void own_count(const char* name, uint64_t total) override;
    void own_value(const char* name, double now);
    void own_latency(const char* name, const char* label, const char* value, const Latency& total) override;

    std::string text() const;

private:
    struct Family {
        std::string name, type, help, samples;
    };
    void begin(const char* group, std::string_view device);
    Family& family(const std::string& name, const char* type, const std::string& help);
    std::string firecracker_key(const char* key) const;
    void histogram(const std::string& name, const std::string& help, const std::string& label, const Latency& total);

    std::string group_, label_;  // label: `id="…"`, or empty
    bool skip_ = false;
    std::vector<Family> families_;  // samples of one name must stand together
    std::unordered_map<std::string, size_t> place_;
};

}  // namespace wisp
