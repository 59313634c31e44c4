// SPDX-License-Identifier: Apache-2.0
//
// How long things took: the least, the most, the sum, and how many fell into each bucket of a histogram.
//
// Threads: one records, any thread may read. A reader may see a part of the record that is just being made.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "base/counter.h"

namespace wisp {

struct LatencySummary {
    uint64_t min_us = 0;
    uint64_t max_us = 0;
    uint64_t sum_us = 0;
    uint64_t count = 0;

    void add(const LatencySummary& other) {
        if (other.count == 0) return;
        min_us = count == 0 ? other.min_us : std::min(min_us, other.min_us);
        max_us = std::max(max_us, other.max_us);
        sum_us += other.sum_us;
        count += other.count;
    }
};

class Latency {
public:
    /// Upper bounds of the buckets: 2 µs, 4 µs, 8 µs, … about 1 s; what took longer is in the last one, which has none.
    static constexpr unsigned kBuckets = 21;
    static constexpr uint64_t upper_bound_us(unsigned bucket) { return uint64_t{2} << bucket; }

    void record(uint64_t ns) {
        const uint64_t us = ns / 1000;
        if (us < min_us_) min_us_ = us;
        if (us > max_us_) max_us_ = us;
        sum_ns_ += ns;
        ++buckets_[bucket_of(ns)];
    }

    void add(const Latency& other) {
        min_us_ = std::min(min_us_.value(), other.min_us_.value());
        max_us_ = std::max(max_us_.value(), other.max_us_.value());
        sum_ns_ += other.sum_ns_;
        for (unsigned i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
    }

    /// The count is that of the buckets, so that both agree whenever they are read.
    LatencySummary summary() const {
        uint64_t count = 0;
        for (const Counter& bucket : buckets_) count += bucket;
        return {count > 0 ? min_us_.value() : 0, max_us_, sum_ns_ / 1000, count};
    }
    uint64_t sum_ns() const { return sum_ns_; }
    /// Of this bucket alone.
    uint64_t in_bucket(unsigned bucket) const { return buckets_[bucket]; }

    static constexpr unsigned bucket_of(uint64_t ns) {
        if (ns <= 2000) return 0;
        const uint64_t us_rounded_up = (ns + 999) / 1000;
        return std::min(static_cast<unsigned>(std::bit_width(us_rounded_up - 1)) - 1, kBuckets - 1);
    }

private:
    Counter min_us_ = UINT64_MAX, max_us_, sum_ns_;
    std::array<Counter, kBuckets> buckets_{};
};

}  // namespace wisp
