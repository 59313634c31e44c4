// SPDX-License-Identifier: Apache-2.0
//
// Counters: how many requests each resource got, and how many of them failed: the API's part of the metrics, under
// Firecracker's names. Like there, each flush tells what was added since the one before.
//
// Threads: the loop's.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "api/message.h"
#include "vmm/config/json_writer.h"

namespace wisp::api {

class Counters {
public:
    /// `resource`: as the metrics name it ("machine_cfg"), or nullptr for one that they do not count.
    void count(Method method, const char* resource, const Response& response);

    /// Members get_api_requests, patch_api_requests, put_api_requests and deprecated_api of an object that is open.
    void write_json(config::JsonWriter& out);

    /// Since the start of the process, for exporters that want totals.
    uint64_t total(Method method, const char* resource, bool failed) const;

private:
    static constexpr size_t kMaxKeys = 24;  // of one method
    struct Value {
        uint64_t total = 0, flushed = 0;
        uint64_t take() { return total - std::exchange(flushed, total); }
    };
    struct PerMethod {
        std::array<Value, kMaxKeys> counts{}, fails{};
    };
    PerMethod get_, put_, patch_;
    Value deprecated_;

    const PerMethod* of(Method method) const;
    PerMethod* of(Method method) { return const_cast<PerMethod*>(std::as_const(*this).of(method)); }
};

}  // namespace wisp::api
