// SPDX-License-Identifier: Apache-2.0
#include "vmm/metrics/prometheus.h"

#include "base/result.h"

namespace wisp {

namespace {

constexpr char kOwn[] = "A metric that Firecracker does not have.";

/// "read_agg" to "read"
std::string without_agg(std::string_view key) {
    if (key.ends_with("_agg")) key.remove_suffix(4);
    return std::string(key);
}

std::string seconds(uint64_t ns) {
    return format("%lu.%09lu", ns / 1'000'000'000, ns % 1'000'000'000);
}

/// `{a,b}`, `{a}` or nothing.
std::string labels(const std::string& first, const std::string& second = {}) {
    if (first.empty() && second.empty()) return {};
    return "{" + first + (first.empty() || second.empty() ? "" : ",") + second + "}";
}

}  // namespace

// Ids of drives and interfaces are letters, digits and underscores, so a label needs no escapes.
void PrometheusMetrics::begin(const char* group, std::string_view device) {
    skip_ = false;
    group_ = group;
    label_ = device.empty() ? "" : "id=\"" + std::string(device) + "\"";
}

PrometheusMetrics::Family& PrometheusMetrics::family(const std::string& name, const char* type,
                                                     const std::string& help) {
    const auto [found, is_new] = place_.try_emplace(name, families_.size());
    if (is_new) families_.push_back({name, type, help, {}});
    return families_[found->second];
}

/// The help of a metric that Firecracker has: its place in Firecracker's line of metrics.
std::string PrometheusMetrics::firecracker_key(const char* key) const {
    return "Firecracker's " + group_ + "." + key;
}

void PrometheusMetrics::count(const char* key, uint64_t total) {
    if (skip_) return;
    // Firecracker's names end in what they count as often as in "count".
    std::string_view stem = key;
    if (stem.ends_with("_count")) stem.remove_suffix(6);
    const std::string name = "wisp_" + group_ + "_" + std::string(stem) + "_total";
    family(name, "counter", firecracker_key(key)).samples += name + labels(label_) + format(" %lu\n", total);
}

void PrometheusMetrics::value(const char* key, uint64_t now) {
    if (skip_) return;
    // Firecracker gives times in microseconds, and says so in the name of the group or of the key.
    std::string_view group = group_, stem = key;
    const bool time = group.ends_with("_us") || stem.ends_with("_us");
    if (group.ends_with("_us")) group.remove_suffix(3);
    if (stem.ends_with("_us")) stem.remove_suffix(3);
    const std::string name = "wisp_" + std::string(group) + "_" + std::string(stem) + (time ? "_seconds" : "");
    family(name, "gauge", firecracker_key(key)).samples +=
        name + labels(label_) + " " + (time ? seconds(now * 1000) : format("%lu", now)) + "\n";
}

void PrometheusMetrics::latency(const char* key, const LatencySummary& total) {
    if (skip_) return;
    const std::string name = "wisp_" + group_ + "_" + without_agg(key) + "_seconds";
    std::string& samples = family(name, "summary", firecracker_key(key)).samples;
    samples += name + "_sum" + labels(label_) + " " + seconds(total.sum_us * 1000) + "\n";
    samples += name + "_count" + labels(label_) + format(" %lu\n", total.count);
}

void PrometheusMetrics::latency(const char* key, const Latency& total) {
    if (!skip_) histogram("wisp_" + group_ + "_" + without_agg(key) + "_seconds", firecracker_key(key), label_, total);
}

void PrometheusMetrics::own_count(const char* name, uint64_t total) {
    const std::string full = std::string("wisp_") + name + "_total";
    family(full, "counter", kOwn).samples += full + format(" %lu\n", total);
}

void PrometheusMetrics::own_value(const char* name, double now) {
    const std::string full = std::string("wisp_") + name;
    family(full, "gauge", kOwn).samples += full + format(" %.9g\n", now);
}

void PrometheusMetrics::own_latency(const char* name, const char* label, const char* value, const Latency& total) {
    histogram(std::string("wisp_") + name + "_seconds", kOwn, std::string(label) + "=\"" + value + "\"", total);
}

void PrometheusMetrics::histogram(const std::string& name, const std::string& help, const std::string& label,
                                  const Latency& total) {
    std::string& samples = family(name, "histogram", help).samples;
    uint64_t below = 0;
    for (unsigned i = 0; i + 1 < Latency::kBuckets; ++i) {
        below += total.in_bucket(i);
        const std::string bound = "le=\"" + seconds(Latency::upper_bound_us(i) * 1000) + "\"";
        samples += name + "_bucket" + labels(label, bound) + format(" %lu\n", below);
    }
    const uint64_t count = total.summary().count;
    samples += name + "_bucket" + labels(label, "le=\"+Inf\"") + format(" %lu\n", count);
    samples += name + "_sum" + labels(label) + " " + seconds(total.sum_ns()) + "\n";
    samples += name + "_count" + labels(label) + format(" %lu\n", count);
}

std::string PrometheusMetrics::text() const {
    std::string out;
    for (const Family& family : families_) {
        out += "# HELP " + family.name + " " + family.help + "\n";
        out += "# TYPE " + family.name + " " + family.type + "\n" + family.samples;
    }
    return out;
}

}  // namespace wisp
