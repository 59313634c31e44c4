// SPDX-License-Identifier: Apache-2.0
#include "base/rate_limiter.h"

namespace wisp {

void RateLimiter::update(const RateLimiterConfig& config) {
    const uint64_t now_ns = monotonic_ns();
    if (config.bandwidth) bandwidth_ = TokenBucket(*config.bandwidth, now_ns);
    if (config.ops) ops_ = TokenBucket(*config.ops, now_ns);
    // What waits may go ahead at once under the new limit.
    if (timer_.armed()) timer_.arm(0);
}

bool RateLimiter::take(uint64_t bytes) {
    if (!limits()) return true;
    if (timer_.armed()) return false;
    const uint64_t now_ns = monotonic_ns();
    uint64_t wait_ns = ops_.take(1, now_ns);
    if (wait_ns == 0) {
        wait_ns = bandwidth_.take(bytes, now_ns);
        if (wait_ns > 0) ops_.give_back(1);
    }
    if (wait_ns == 0) return true;
    timer_.arm(wait_ns);
    return false;
}

void RateLimiter::save(RecordWriter& writer) const {
    const uint64_t now_ns = monotonic_ns();
    bandwidth_.save(writer, now_ns);
    ops_.save(writer, now_ns);
}

Result<void> RateLimiter::restore(RecordReader& reader) {
    const uint64_t now_ns = monotonic_ns();
    const auto bandwidth = TRY(TokenBucket::restore(reader, now_ns));
    const auto ops = TRY(TokenBucket::restore(reader, now_ns));
    TRY(reader.finish());
    timer_.cancel();
    bandwidth_ = bandwidth;
    ops_ = ops;
    return {};
}

}  // namespace wisp
