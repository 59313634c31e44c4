// SPDX-License-Identifier: Apache-2.0
#include "base/rate_limiter.h"

#include <catch2/catch.hpp>
#include <random>

using namespace wisp;
using namespace wisp::virtio;

namespace {

constexpr uint64_t kSecond_ns = 1'000'000'000;

// Tokens that a greedy user of `bucket` gets in `seconds`, asking again whenever it is told to.
uint64_t greedy(TokenBucket& bucket, uint64_t tokens, uint64_t seconds, uint64_t& now_ns) {
    const uint64_t end_ns = now_ns + seconds * kSecond_ns;
    uint64_t got = 0;
    while (now_ns < end_ns) {
        const uint64_t wait_ns = bucket.take(tokens, now_ns);
        if (wait_ns == 0)
            got += tokens;
        else
            now_ns += wait_ns;
    }
    return got;
}

}  // namespace

TEST_CASE("token bucket: without a size or a refill time there is no limit") {
    for (const TokenBucketConfig config : {TokenBucketConfig{0, 0, 100}, TokenBucketConfig{100, 0, 0}}) {
        TokenBucket bucket(config, 0);
        CHECK(bucket.take(UINT64_MAX, 0) == 0);
        CHECK(bucket.take(UINT64_MAX, 0) == 0);
    }
}

TEST_CASE("token bucket: it starts full, and then refuses until enough is refilled") {
    TokenBucket bucket({1000, 0, 1000}, 0);
    CHECK(bucket.take(1000, 0) == 0);
    const uint64_t wait_ns = bucket.take(100, 0);
    CHECK(wait_ns == 100'000'000);
    CHECK(bucket.take(100, wait_ns - 1) > 0);
    CHECK(bucket.take(100, wait_ns) == 0);
}

TEST_CASE("token bucket: the one-time burst comes first and once") {
    TokenBucket bucket({100, 500, 1000}, 0);
    CHECK(bucket.take(500, 0) == 0);
    CHECK(bucket.take(100, 0) == 0);
    CHECK(bucket.take(1, 0) > 0);
    CHECK(bucket.take(100, 100 * kSecond_ns) == 0);
    CHECK(bucket.take(1, 100 * kSecond_ns) > 0);
}

TEST_CASE("token bucket: what is larger than the bucket goes when it is full, and is paid for afterwards") {
    TokenBucket bucket({100, 0, 1000}, 0);
    CHECK(bucket.take(350, 0) == 0);
    CHECK(bucket.take(1, 2 * kSecond_ns) > 0);
    CHECK(bucket.take(1, 2'600'000'000) == 0);
}

TEST_CASE("token bucket: the long-run rate is exact for every size, refill time and request") {
    std::mt19937_64 random(20260821);
    for (int i = 0; i < 300; ++i) {
        const TokenBucketConfig config{1 + random() % 1'000'000, 0, 1 + random() % 5000};
        const uint64_t tokens = 1 + random() % (2 * config.size);
        TokenBucket bucket(config, 12345);
        uint64_t now_ns = 12345;
        greedy(bucket, tokens, 20, now_ns);  // past the full start
        const uint64_t start_ns = now_ns;
        const uint64_t got = greedy(bucket, tokens, 200, now_ns);
        const double expected = static_cast<double>(now_ns - start_ns) / 1e6 * static_cast<double>(config.size) /
                                static_cast<double>(config.refill_time_ms);
        INFO(config.size << " tokens in " << config.refill_time_ms << " ms, " << tokens << " at a time");
        CHECK(std::abs(static_cast<double>(got) - expected) < 0.02 * expected + 2 * static_cast<double>(tokens));
    }
}

TEST_CASE("rate limiter: refuses, tells when to go on, and a lifted limit lets go at once") {
    auto loop = *Loop::create();
    int ready = 0;
    RateLimiter limiter(*loop, [&] { ++ready; });
    CHECK_FALSE(limiter.limits());
    CHECK(limiter.take(1 << 30));
    limiter.update({.ops = TokenBucketConfig{2, 0, 50}});
    CHECK(limiter.take(1));
    CHECK(limiter.take(1));
    CHECK_FALSE(limiter.take(1));
    CHECK(limiter.blocked());
    while (ready == 0) REQUIRE(loop->turn(-1).has_value());
    CHECK(limiter.take(1));
    limiter.update({.bandwidth = TokenBucketConfig{1, 0, 1'000'000}});
    while (limiter.take(1)) {
    }
    limiter.update({.bandwidth = TokenBucketConfig{}, .ops = TokenBucketConfig{}});
    while (ready == 1) REQUIRE(loop->turn(-1).has_value());
    CHECK(limiter.take(1 << 30));
}
