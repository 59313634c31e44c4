// SPDX-License-Identifier: Apache-2.0
#include "api/counters.h"

#include <cstring>
#include <span>

#include "base/result.h"

namespace wisp::api {

namespace {

// Firecracker's keys, in its order; those of devices that Wisp leaves out stay zero.
constexpr const char* kGet[] = {"instance_info", "machine_cfg", "mmds", "vmm_version", "hotplug_memory"};
constexpr const char* kPatch[] = {"drive", "network", "machine_cfg", "mmds", "hotplug_memory", "pmem"};
constexpr const char* kPut[] = {"actions", "boot_source", "drive", "logger", "machine_cfg", "cpu_cfg",       "metrics",
                                "network", "mmds",        "vsock", "pmem",   "serial",      "hotplug_memory"};

std::span<const char* const> keys(Method method) {
    switch (method) {
        case Method::kGet:
            return kGet;
        case Method::kPatch:
            return kPatch;
        case Method::kPut:
            return kPut;
        default:
            return {};
    }
}

/// Place of a resource among the keys of its method, or as many as there are.
size_t place(Method method, const char* resource) {
    const auto names = keys(method);
    size_t i = 0;
    while (i < names.size() && (!resource || strcmp(names[i], resource) != 0)) ++i;
    return i;
}

}  // namespace

const Counters::PerMethod* Counters::of(Method method) const {
    switch (method) {
        case Method::kGet:
            return &get_;
        case Method::kPatch:
            return &patch_;
        case Method::kPut:
            return &put_;
        default:
            return nullptr;
    }
}

void Counters::count(Method method, const char* resource, const Response& response) {
    if (response.deprecated) ++deprecated_;
    const size_t at = place(method, resource);
    if (at == keys(method).size()) return;
    PerMethod& counters = *of(method);
    ++counters.counts[at];
    if (response.status >= 400) ++counters.fails[at];
}

uint64_t Counters::total(Method method, const char* resource, bool failed) const {
    const size_t at = place(method, resource);
    if (at == keys(method).size()) return 0;
    return failed ? of(method)->fails[at] : of(method)->counts[at];
}

void Counters::record_duration(Method method, uint64_t ns) {
    durations_[static_cast<unsigned>(method)].record(ns);
}

void Counters::visit(MetricsVisitor& visitor) const {
    static_assert(std::size(kPut) <= kMaxKeys);
    const auto visit_group = [&](const char* group, Method method, const PerMethod& counters) {
        visitor.group(group);
        const auto names = keys(method);
        for (size_t i = 0; i < names.size(); ++i) {
            visitor.count(format("%s_count", names[i]).c_str(), counters.counts[i]);
            if (method != Method::kGet) visitor.count(format("%s_fails", names[i]).c_str(), counters.fails[i]);
        }
    };
    visitor.group("deprecated_api");
    visitor.count("deprecated_http_api_calls", deprecated_);
    visit_group("get_api_requests", Method::kGet, get_);
    visit_group("patch_api_requests", Method::kPatch, patch_);
    visit_group("put_api_requests", Method::kPut, put_);
    for (unsigned i = 0; i < durations_.size(); ++i)
        visitor.own_latency("api_request_duration", "method", to_string(static_cast<Method>(i)), durations_[i]);
}

}  // namespace wisp::api
