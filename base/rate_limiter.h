// SPDX-License-Identifier: Apache-2.0
//
// RateLimiter: how many bytes and operations a device may do in a time: two token buckets, as Firecracker's API has
// them.
//
// A bucket starts full. `one_time_burst` is spent first and never comes back. Something larger than a whole bucket is
// let through when the bucket is full enough to be emptied, and what it took too much is waited for afterwards.
// Refilling is exact: no fraction of a token is lost, so the long-run rate is size / refill_time.
//
// Threads: the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "base/loop.h"
#include "base/record.h"
#include "base/result.h"

namespace wisp::virtio {

/// One bucket: `size` tokens, refilled from empty to full in `refill_time_ms`. Either of them 0: no limit.
struct TokenBucketConfig {
    uint64_t size = 0;
    uint64_t one_time_burst = 0;
    uint64_t refill_time_ms = 0;

    bool enabled() const { return size != 0 && refill_time_ms != 0; }
};

struct RateLimiterConfig {
    std::optional<TokenBucketConfig> bandwidth{};  ///< tokens are bytes
    std::optional<TokenBucketConfig> ops{};
};

/// Pure: the time is an argument.
class TokenBucket {
public:
    TokenBucket() = default;  // no limit
    TokenBucket(const TokenBucketConfig& config, uint64_t now_ns);

    /// 0: the tokens were taken. Otherwise nothing was, and it pays to ask again after so many nanoseconds.
    uint64_t take(uint64_t tokens, uint64_t now_ns);
    /// Gives back what take() took.
    void give_back(uint64_t tokens);
    const TokenBucketConfig& config() const { return config_; }

    /// Writes a leaf. Time that passes between save() and restore() refills nothing.
    void save(RecordWriter& writer, const RecordType& type, uint64_t now_ns) const;
    static Result<TokenBucket> restore(RecordReader reader, uint64_t now_ns);

private:
    void refill(uint64_t now_ns);
    uint64_t time_for(uint64_t tokens) const;

    TokenBucketConfig config_;
    uint64_t refill_ns_ = 0;
    uint64_t burst_ = 0;
    uint64_t tokens_ = 0;
    uint64_t debt_ = 0;            // taken beyond the bucket's size: refilled first
    uint64_t refilled_to_ns_ = 0;  // what has passed until then is in tokens_
};

class RateLimiter {
public:
    /// `on_ready` is called when something that was refused may go ahead.
    RateLimiter(Loop& loop, std::function<void()> on_ready) : timer_(loop, std::move(on_ready)) {}

    /// Sets the buckets that `config` has; one that is not enabled() takes the limit away. The others stay as they are.
    void update(const RateLimiterConfig& config);

    /// One operation of so many bytes. False: not now; on_ready will be called.
    bool take(uint64_t bytes);
    /// True between a refusal and on_ready.
    bool blocked() const { return timer_.armed(); }
    /// Whether there is any limit.
    bool limits() const { return bandwidth_.config().enabled() || ops_.config().enabled(); }

    /// Writes a record. `index`: of one of several in a device.
    void save(RecordWriter& writer, uint32_t index = 0) const;
    Result<void> restore(RecordReader reader);
    static constexpr RecordType kRecord{"rlim", "rate_limiter", 1, Need::kRequired};

private:
    TokenBucket bandwidth_, ops_;
    Timer timer_;
};

}  // namespace wisp::virtio
