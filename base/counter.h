// SPDX-License-Identifier: Apache-2.0
//
// Counter: a number that one thread changes and any thread may read, without a lock prefix. It is a plain add to its
// writer; a reader sees a value that the counter had a moment ago.
#pragma once

#include <atomic>
#include <cstdint>

namespace wisp {

class Counter {
public:
    constexpr Counter(uint64_t value = 0) : value_(value) {}
    Counter(const Counter& other) : value_(other.value()) {}
    Counter& operator=(const Counter& other) { return *this = other.value(); }

    // ---- the writer's thread ----

    Counter& operator=(uint64_t value) {
        value_.store(value, std::memory_order_relaxed);
        return *this;
    }
    Counter& operator+=(uint64_t more) { return *this = value() + more; }
    Counter& operator++() { return *this += 1; }
    Counter& operator--() { return *this = value() - 1; }

    // ---- any thread ----

    uint64_t value() const { return value_.load(std::memory_order_relaxed); }
    operator uint64_t() const { return value(); }

private:
    std::atomic<uint64_t> value_;
};

}  // namespace wisp
