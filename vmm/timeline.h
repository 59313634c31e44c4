// SPDX-License-Identifier: Apache-2.0
//
// Timeline: when each step of a boot happened. Marks are set once, by whichever thread takes the step.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

namespace wisp {

enum class Mark : unsigned { kProcessStart, kVmCreated, kKernelLoaded, kFirstInstruction, kInit, kCount };

class Timeline {
public:
    /// `start_ns`: CLOCK_MONOTONIC at the start of the process.
    explicit Timeline(uint64_t start_ns) { set(Mark::kProcessStart, start_ns, 0); }

    /// Takes the time now, if the mark is not set yet. `exits`: KVM exits to this process so far.
    void mark(Mark mark, uint64_t exits = 0);
    /// Nanoseconds since the start of the process; 0 for a mark that is not set.
    uint64_t since_start_ns(Mark mark) const;

    /// A table: one line a mark, microseconds since the start and since the mark before, and exits.
    std::string to_string() const;

private:
    struct Entry {
        std::atomic<uint64_t> at_ns = 0;
        std::atomic<uint64_t> exits = 0;
    };
    void set(Mark mark, uint64_t at_ns, uint64_t exits);
    const Entry& entry(Mark mark) const { return entries_[static_cast<unsigned>(mark)]; }

    std::array<Entry, static_cast<unsigned>(Mark::kCount)> entries_;
};

}  // namespace wisp
