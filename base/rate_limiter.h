// SPDX-License-Identifier: Apache-2.0
//
// RateLimiter: how many bytes and operations a device may do in a time: two token buckets and a timer that tells when
// to go on.
//
// Threads: the loop's.
#pragma once

#include <cstdint>
#include <functional>

#include "base/loop.h"
#include "base/token_bucket.h"

namespace wisp {

class RateLimiter {
public:
    /// `on_ready` is called when something that was refused may go ahead.
    RateLimiter(Loop& loop, std::function<void()> on_ready) : timer_(loop, std::move(on_ready)) {}

    /// Sets the buckets that `config` has; one that limits nothing takes the limit away. The others stay as they are.
    void update(const RateLimiterConfig& config);

    /// One operation of so many bytes. False: not now; on_ready will be called.
    bool take(uint64_t bytes);
    /// True between a refusal and on_ready.
    bool blocked() const { return timer_.armed(); }
    /// Whether there is any limit.
    bool limits() const { return bandwidth_.limits() || ops_.limits(); }

    static constexpr RecordType kRecord{"rate", "rate_limiter", 1, Need::kRequired};
    /// The content of a leaf of type kRecord. That something was refused is not saved: its owner asks again.
    void save(RecordWriter& writer) const;
    Result<void> restore(RecordReader& reader);

private:
    TokenBucket bandwidth_, ops_;
    Timer timer_;
};

}  // namespace wisp
