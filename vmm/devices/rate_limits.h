// SPDX-License-Identifier: Apache-2.0
//
// A drive's or interface's limits as its device takes them.
#pragma once

#include <optional>

#include "base/rate_limiter.h"
#include "vmm/config/resources.h"

namespace wisp {

inline virtio::TokenBucketConfig token_bucket_of(const config::TokenBucket& wanted) {
    return {wanted.size, wanted.one_time_burst.value_or(0), wanted.refill_time};
}

inline virtio::RateLimiterConfig rate_limiter_of(const config::RateLimiter& wanted) {
    const auto bucket = [](const auto& tokens) -> std::optional<virtio::TokenBucketConfig> {
        if (!tokens) return std::nullopt;
        return token_bucket_of(*tokens);
    };
    return {bucket(wanted.bandwidth), bucket(wanted.ops)};
}

}  // namespace wisp
