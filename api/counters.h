// SPDX-License-Identifier: Apache-2.0
//
// Counters: the API's part of the metrics, under Firecracker's names: requests of each resource, how many of them
// failed, and how long they took.
//
// Threads: control's.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "api/message.h"
#include "base/metrics.h"

namespace wisp::api {

class Counters {
public:
    /// `resource`: its name in the metrics ("machine_cfg"), or nullptr for one that is not counted.
    void count(Method method, const char* resource, const Response& response);

    /// The time from when a request was whole to its answer.
    void record_duration(Method method, uint64_t ns);

    /// The groups deprecated_api, get_api_requests, patch_api_requests and put_api_requests, and durations by method.
    void visit(MetricsVisitor& visitor) const;

    /// Since the start of the process.
    uint64_t total(Method method, const char* resource, bool failed) const;

private:
    static constexpr size_t kMaxKeys = 24;  // of one method
    struct PerMethod {
        std::array<uint64_t, kMaxKeys> counts{}, fails{};
    };
    PerMethod get_, put_, patch_;
    uint64_t deprecated_ = 0;
    std::array<Latency, 5> durations_;  // by method

    const PerMethod* of(Method method) const;
    PerMethod* of(Method method) { return const_cast<PerMethod*>(std::as_const(*this).of(method)); }
};

}  // namespace wisp::api
