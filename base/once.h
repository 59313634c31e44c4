// SPDX-License-Identifier: Apache-2.0
//
// Once: a piece of work that whichever thread has the time does, and whose result all of them can wait for.
#pragma once

#include <atomic>
#include <chrono>
#include <optional>
#include <utility>

#include "base/countdown.h"
#include "base/loop.h"
#include "base/result.h"

namespace wisp {

template <class T = void>
class Once {
public:
    /// Does the work, unless somebody has or is at it.
    template <class Work>
    void run(Work&& work) {
        if (begun_.test_and_set()) return;
        result_.emplace(std::forward<Work>(work)());
        is_done_.store(true, std::memory_order_release);
        done_.count_down();
    }
    /// Waits for whoever does the work.
    Result<T>& wait() {
        done_.wait();
        return *result_;
    }
    /// Before a wait, where whoever does the work is about to end and has a CPU of its own: to be woken would take as
    /// long as what is left.
    void look_out() const {
        const uint64_t limit_ns = monotonic_ns() + kLookOut_ns;
        while (!done() && monotonic_ns() < limit_ns) __builtin_ia32_pause();
    }
    bool done() const { return is_done_.load(std::memory_order_acquire); }
    /// At most so long. True if it is done.
    bool wait_for(std::chrono::microseconds limit) { return done_.wait_for(limit); }

private:
    static constexpr uint64_t kLookOut_ns = 200'000;

    std::atomic_flag begun_;
    std::atomic<bool> is_done_ = false;
    std::optional<Result<T>> result_;
    Countdown done_{1};
};

}  // namespace wisp
