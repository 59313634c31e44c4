// SPDX-License-Identifier: Apache-2.0
//
// Countdown: waits for a number of things to happen on other threads. Like std::latch, but whoever waits sleeps at
// once: the library's latch first yields the CPU a few times, which on a busy host gives a whole time slice away.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace wisp {

class Countdown {
public:
    explicit Countdown(unsigned count) : left_(count) {}

    void count_down() {
        const std::lock_guard lock(mutex_);
        if (--left_ == 0) done_.notify_all();
    }
    void wait() {
        std::unique_lock lock(mutex_);
        done_.wait(lock, [this] { return left_ == 0; });
    }
    /// At most so long. True if it is over.
    bool wait_for(std::chrono::microseconds limit) {
        std::unique_lock lock(mutex_);
        return done_.wait_for(lock, limit, [this] { return left_ == 0; });
    }

private:
    std::mutex mutex_;
    std::condition_variable done_;
    unsigned left_;
};

}  // namespace wisp
