// SPDX-License-Identifier: Apache-2.0
#include "base/token_bucket.h"

#include <algorithm>

namespace wisp {

namespace {

// Waits are not shorter than this, so that a high rate is served in batches and not by a timer for each request …
constexpr uint64_t kShortestWait_ns = 1'000'000;

constexpr uint64_t kNsPerMs = 1'000'000;

using Wide = unsigned __int128;  // holds the product of two 64-bit numbers

uint64_t saturate(Wide value) {
    return static_cast<uint64_t>(std::min<Wide>(value, UINT64_MAX));
}

}  // namespace

TokenBucket::TokenBucket(const TokenBucketConfig& config, uint64_t now_ns) {
    if (!config.limits()) return;
    config_ = config;
    refill_ns_ = config.refill_time_ms * kNsPerMs;
    burst_ = config.one_time_burst.value_or(0);
    tokens_ = config.size;
    refilled_to_ns_ = now_ns;
}

uint64_t TokenBucket::time_for(uint64_t tokens) const {
    return saturate((Wide{tokens} * refill_ns_ + (config_.size - 1)) / config_.size);
}

void TokenBucket::refill(uint64_t now_ns) {
    if (now_ns <= refilled_to_ns_) return;
    const uint64_t passed_ns = now_ns - refilled_to_ns_;
    uint64_t fresh = saturate(Wide{passed_ns} * config_.size / refill_ns_);
    // Only the time that made whole tokens is used up.
    refilled_to_ns_ += std::min(passed_ns, saturate(Wide{fresh} * refill_ns_ / config_.size));
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
    if (!limits()) return 0;
    if (burst_ >= tokens) {
        burst_ -= tokens;
        return 0;
    }
    const uint64_t rest = tokens - burst_;
    refill(now_ns);
    const uint64_t needed = std::min(rest, config_.size);
    if (debt_ > 0 || tokens_ < needed) {
        const uint64_t wait_ns = time_for(saturate(Wide{debt_} + needed - std::min(tokens_, needed)));
        // … but no longer than half a bucket takes to fill, or tokens would be lost over the brim.
        return std::max<uint64_t>({wait_ns, std::min(kShortestWait_ns, refill_ns_ / 2), 1});
    }
    burst_ = 0;
    tokens_ -= needed;
    debt_ = rest - needed;
    return 0;
}

void TokenBucket::give_back(uint64_t tokens) {
    if (!limits()) return;
    const uint64_t repaid = std::min(debt_, tokens);
    debt_ -= repaid;
    tokens_ += std::min(config_.size - tokens_, tokens - repaid);
}

// The time since the last whole token is saved, not the moment: another host's clock starts elsewhere.
void TokenBucket::save(RecordWriter& writer, uint64_t now_ns) const {
    writer.boolean(limits());
    if (!limits()) return;
    TokenBucket now = *this;
    now.refill(now_ns);
    writer.u64(config_.size);
    writer.boolean(config_.one_time_burst.has_value());
    writer.u64(config_.one_time_burst.value_or(0));
    writer.u64(config_.refill_time_ms);
    writer.u64(now.burst_);
    writer.u64(now.tokens_);
    writer.u64(now.debt_);
    writer.u64(now_ns - std::min(now_ns, now.refilled_to_ns_));
}

Result<TokenBucket> TokenBucket::restore(RecordReader& reader, uint64_t now_ns) {
    if (!TRY(reader.boolean("limits"))) return TokenBucket();
    TokenBucketConfig config;
    config.size = TRY(reader.u64("size", 1));
    const bool has_burst = TRY(reader.boolean("has_one_time_burst"));
    const uint64_t burst = TRY(reader.u64("one_time_burst", 0, has_burst ? UINT64_MAX : 0));
    if (has_burst) config.one_time_burst = burst;
    config.refill_time_ms = TRY(reader.u64("refill_time_ms", 1, UINT64_MAX / kNsPerMs));
    TokenBucket bucket(config, now_ns);
    bucket.burst_ = TRY(reader.u64("burst", 0, burst));
    bucket.tokens_ = TRY(reader.u64("tokens", 0, config.size));
    bucket.debt_ = TRY(reader.u64("debt"));
    bucket.refilled_to_ns_ = now_ns - std::min(now_ns, TRY(reader.u64("partial_ns", 0, bucket.refill_ns_)));
    return bucket;
}

}  // namespace wisp
