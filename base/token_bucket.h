// SPDX-License-Identifier: Apache-2.0
//
// TokenBucket: how many tokens (bytes, operations) may be taken in a time, and the configuration of one and of a pair,
// as Firecracker's API has them.
//
// A bucket starts full. `one_time_burst` is spent first and never comes back. Something larger than a whole bucket is
// let through when the bucket is full enough to be emptied, and what it took too much is waited for afterwards.
// Refilling is exact: no fraction of a token is lost, so the long-run rate is size / refill_time.
//
// Pure: the time is an argument. Sums and products saturate: any 64-bit number of a client is a valid argument.
#pragma once

#include <cstdint>
#include <optional>

#include "base/record.h"

namespace wisp {

struct TokenBucketConfig {
    uint64_t size = 0;                            ///< bytes or operations
    std::optional<uint64_t> one_time_burst = {};  ///< tokens beside the size
    uint64_t refill_time_ms = 0;                  ///< from empty to full

    /// A size or time of 0 limits nothing. Neither does a time whose nanoseconds exceed 64 bits, as in Firecracker.
    bool limits() const { return size != 0 && refill_time_ms != 0 && refill_time_ms <= UINT64_MAX / 1'000'000; }
};

struct RateLimiterConfig {
    std::optional<TokenBucketConfig> bandwidth = {};  ///< tokens are bytes
    std::optional<TokenBucketConfig> ops = {};        ///< tokens are requests or frames

    bool limits() const { return (bandwidth && bandwidth->limits()) || (ops && ops->limits()); }
};

class TokenBucket {
public:
    TokenBucket() = default;  // no limit
    TokenBucket(const TokenBucketConfig& config, uint64_t now_ns);

    /// 0: the tokens were taken. Otherwise nothing was, and it pays to ask again after so many nanoseconds.
    uint64_t take(uint64_t tokens, uint64_t now_ns);
    /// Gives back what take() took.
    void give_back(uint64_t tokens);
    bool limits() const { return config_.limits(); }

    /// Fields of a leaf. The time between save() and restore() does not refill the bucket.
    void save(RecordWriter& writer, uint64_t now_ns) const;
    static Result<TokenBucket> restore(RecordReader& reader, uint64_t now_ns);

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

}  // namespace wisp
