// SPDX-License-Identifier: Apache-2.0
#include "vmm/timeline.h"

#include <algorithm>
#include <vector>

#include "base/loop.h"
#include "base/result.h"

namespace wisp {

namespace {

constexpr const char* kNames[] = {
    "process start", "VM created", "kernel loaded", "first guest instruction", "init",
};
static_assert(std::size(kNames) == static_cast<unsigned>(Mark::kCount));

}  // namespace

void Timeline::set(Mark mark, uint64_t at_ns, uint64_t exits) {
    Entry& entry = entries_[static_cast<unsigned>(mark)];
    uint64_t unset = 0;
    if (entry.at_ns.compare_exchange_strong(unset, at_ns, std::memory_order_relaxed))
        entry.exits.store(exits, std::memory_order_relaxed);
}

void Timeline::mark(Mark mark, uint64_t exits) {
    set(mark, monotonic_ns(), exits);
}

uint64_t Timeline::since_start_ns(Mark mark) const {
    const uint64_t at_ns = entry(mark).at_ns.load(std::memory_order_relaxed);
    return at_ns ? at_ns - entry(Mark::kProcessStart).at_ns.load(std::memory_order_relaxed) : 0;
}

std::string Timeline::to_string() const {
    std::string text = format("%-26s %12s %12s %8s\n", "boot timeline", "us", "step us", "exits");
    // In the order of time, which need not be the order of the names: some steps run side by side.
    std::vector<Mark> order;
    for (unsigned i = 0; i < static_cast<unsigned>(Mark::kCount); ++i) order.push_back(static_cast<Mark>(i));
    constexpr uint64_t kNever = UINT64_MAX;
    const auto time = [this](Mark mark) { return entry(mark).at_ns ? since_start_ns(mark) : kNever; };
    std::ranges::stable_sort(order, {}, time);
    uint64_t previous_ns = 0;
    for (const Mark mark : order) {
        const char* name = kNames[static_cast<unsigned>(mark)];
        if (entry(mark).at_ns == 0) {
            text += format("  %-24s %12s\n", name, "not seen");
            continue;
        }
        const uint64_t at_ns = since_start_ns(mark);
        text += format("  %-24s %12lu %12lu %8lu\n", name, static_cast<unsigned long>(at_ns / 1000),
                       static_cast<unsigned long>((at_ns - previous_ns) / 1000),
                       static_cast<unsigned long>(entry(mark).exits.load(std::memory_order_relaxed)));
        previous_ns = at_ns;
    }
    return text;
}

}  // namespace wisp
