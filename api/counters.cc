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
    if (response.deprecated) ++deprecated_.total;
    const size_t at = place(method, resource);
    if (at == keys(method).size()) return;
    PerMethod& counters = *of(method);
    ++counters.counts[at].total;
    if (response.status >= 400) ++counters.fails[at].total;
}

uint64_t Counters::total(Method method, const char* resource, bool failed) const {
    const size_t at = place(method, resource);
    if (at == keys(method).size()) return 0;
    return failed ? of(method)->fails[at].total : of(method)->counts[at].total;
}

void Counters::write_json(config::JsonWriter& out) {
    static_assert(std::size(kPut) <= kMaxKeys);
    const auto write = [&](const char* group, Method method, PerMethod& counters) {
        out.key(group);
        out.begin_object();
        const auto names = keys(method);
        for (size_t i = 0; i < names.size(); ++i) {
            out.key(format("%s_count", names[i]));
            out.number(counters.counts[i].take());
            if (method == Method::kGet) continue;
            out.key(format("%s_fails", names[i]));
            out.number(counters.fails[i].take());
        }
        out.end_object();
    };
    out.key("deprecated_api");
    out.begin_object();
    out.key("deprecated_http_api_calls");
    out.number(deprecated_.take());
    out.end_object();
    write("get_api_requests", Method::kGet, get_);
    write("patch_api_requests", Method::kPatch, patch_);
    write("put_api_requests", Method::kPut, put_);
}

}  // namespace wisp::api
