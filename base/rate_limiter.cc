// SPDX-License-Identifier: Apache-2.0
#include "base/rate_limiter.h"

#include <algorithm>

namespace wisp::virtio {

namespace {

// Waits are not shorter than this, so that a high rate is served in batches and not by a timer for each request …
constexpr uint64_t kShortestWait_ns = 1'000'000;

// Most that one operation takes beyond a bucket's size: no device moves more bytes at once.
constexpr uint64_t kMostDebt = UINT32_MAX;

constexpr RecordType kBandwidth{"bytb", "bandwidth", 1, Need::kRequired};
constexpr RecordType kOps{"opsb", "ops", 1, Need::kRequired};

using Wide = unsigned __int128;

}  // namespace

TokenBucket::TokenBucket(const TokenBucketConfig& config, uint64_t now_ns)
    : config_(config),
      refill_ns_(std::min(config.refill_time_ms, UINT64_MAX / 1'000'000) * 1'000'000),
      burst_(config.one_time_burst),
      tokens_(config.size),
      refilled_to_ns_(now_ns) {}

uint64_t TokenBucket::time_for(uint64_t tokens) const {
    return static_cast<uint64_t>(
        std::min<Wide>((static_cast<Wide>(tokens) * refill_ns_ + config_.size - 1) / config_.size, UINT64_MAX));
}

void TokenBucket::refill(uint64_t now_ns) {
    if (now_ns <= refilled_to_ns_) return;
    const uint64_t passed_ns = now_ns - refilled_to_ns_;
    auto fresh =
        static_cast<uint64_t>(std::min<Wide>(static_cast<Wide>(passed_ns) * config_.size / refill_ns_, UINT64_MAX));
    // Only the time that made whole tokens is used up.
    refilled_to_ns_ += std::min(passed_ns, static_cast<uint64_t>(static_cast<Wide>(fresh) * refill_ns_ / config_.size));
    const uint64_t repaid = std::min(debt_, fresh);
    debt_ -= repaid;
    fresh -= repaid;
    if (fresh >= config_.size - tokens_) {
        tokens_ = config_.size;
        refilled_to_ns_ = now_ns;  // a full bucket does not save up
    } else {
        tokens_ += fresh;
    }
}

uint64_t TokenBucket::take(uint64_t tokens, uint64_t now_ns) {
    if (!config_.enabled()) return 0;
    if (burst_ >= tokens) {
        burst_ -= tokens;
        return 0;
    }
    const uint64_t rest = tokens - burst_;
    refill(now_ns);
    const uint64_t needed = std::min(rest, config_.size);
    if (debt_ > 0 || tokens_ < needed) {
        const uint64_t wait_ns = time_for(debt_ + needed - tokens_);
        // … but no longer than half a bucket takes to fill, or tokens would be lost over the brim.
        return std::max<uint64_t>({wait_ns, std::min(kShortestWait_ns, refill_ns_ / 2), 1});
    }
    burst_ = 0;
    tokens_ -= needed;
    debt_ = rest - needed;
    return 0;
}

void TokenBucket::give_back(uint64_t tokens) {
    if (!config_.enabled()) return;
    const uint64_t repaid = std::min(debt_, tokens);
    debt_ -= repaid;
    tokens_ = std::min(config_.size, tokens_ + (tokens - repaid));
}

void RateLimiter::update(const RateLimiterConfig& config) {
    const uint64_t now_ns = monotonic_ns();
    if (config.bandwidth)
        bandwidth_ = config.bandwidth->enabled() ? TokenBucket(*config.bandwidth, now_ns) : TokenBucket();
    if (config.ops) ops_ = config.ops->enabled() ? TokenBucket(*config.ops, now_ns) : TokenBucket();
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

void TokenBucket::save(RecordWriter& writer, const RecordType& type, uint64_t now_ns) const {
    TokenBucket now = *this;
    if (config_.enabled()) now.refill(now_ns);
    const auto bucket = writer.leaf(type);
    writer.u64(config_.size);
    writer.u64(config_.one_time_burst);
    writer.u64(config_.refill_time_ms);
    writer.u64(now.burst_);
    writer.u64(now.tokens_);
    writer.u64(now.debt_);
    writer.u64(config_.enabled() ? now_ns - now.refilled_to_ns_ : 0);
}

Result<TokenBucket> TokenBucket::restore(RecordReader reader, uint64_t now_ns) {
    TokenBucketConfig config;
    config.size = TRY(reader.u64("size"));
    config.one_time_burst = TRY(reader.u64("one_time_burst"));
    config.refill_time_ms = TRY(reader.u64("refill_time_ms"));
    TokenBucket bucket(config, now_ns);
    bucket.burst_ = TRY(reader.u64("burst", 0, config.one_time_burst));
    bucket.tokens_ = TRY(reader.u64("tokens", 0, config.size));
    bucket.debt_ = TRY(reader.u64("debt", 0, kMostDebt));
    bucket.refilled_to_ns_ = now_ns - std::min(now_ns, TRY(reader.u64("since_refill_ns", 0, bucket.refill_ns_)));
    TRY(reader.finish());
    return config.enabled() ? bucket : TokenBucket();
}

void RateLimiter::save(RecordWriter& writer, uint32_t index) const {
    const uint64_t now_ns = monotonic_ns();
    const auto limiter = writer.group(kRecord, index);
    bandwidth_.save(writer, kBandwidth, now_ns);
    ops_.save(writer, kOps, now_ns);
}

Result<void> RateLimiter::restore(RecordReader reader) {
    const uint64_t now_ns = monotonic_ns();
    const TokenBucket bandwidth = TRY(TokenBucket::restore(TRY(reader.record(kBandwidth)), now_ns));
    const TokenBucket ops = TRY(TokenBucket::restore(TRY(reader.record(kOps)), now_ns));
    TRY(reader.finish());
    bandwidth_ = bandwidth;
    ops_ = ops;
    return {};
}

}  // namespace wisp::virtio
