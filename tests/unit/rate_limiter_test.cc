// SPDX-License-Identifier: Apache-2.0
#include "base/rate_limiter.h"

#include <catch2/catch.hpp>
#include <random>

using namespace wisp;

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
    // The last one's nanoseconds exceed 64 bits: Firecracker takes that for no limit.
    for (const TokenBucketConfig config :
         {TokenBucketConfig{0, 0, 100}, TokenBucketConfig{100, 0, 0},
          TokenBucketConfig{100, 0, UINT64_MAX / 1'000'000 + 1}, TokenBucketConfig{100, 0, UINT64_MAX}}) {
        CHECK_FALSE(config.limits());
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

TEST_CASE("token bucket: the longest refill time is waited for, not wrapped around") {
    const TokenBucketConfig config{1, 0, UINT64_MAX / 1'000'000};
    REQUIRE(config.limits());
    TokenBucket bucket(config, 5 * kSecond_ns);
    CHECK(bucket.take(1, 5 * kSecond_ns) == 0);
    CHECK(bucket.take(1, 5 * kSecond_ns) == config.refill_time_ms * 1'000'000);
    CHECK(bucket.take(1, 3'000'000'000 * kSecond_ns) > 0);
}

TEST_CASE("token bucket: the largest sizes and requests neither wrap around nor wait for ever") {
    TokenBucket bucket({UINT64_MAX, UINT64_MAX, 1000}, 0);
    CHECK(bucket.take(UINT64_MAX, 0) == 0);  // the burst
    CHECK(bucket.take(UINT64_MAX, 0) == 0);  // the bucket
    CHECK(bucket.take(UINT64_MAX, 0) == kSecond_ns);
    bucket.give_back(1);
    bucket.give_back(UINT64_MAX);
    CHECK(bucket.take(UINT64_MAX, 0) == 0);

    TokenBucket small({1, 0, UINT64_MAX / 1'000'000}, 0);
    CHECK(small.take(UINT64_MAX, 0) == 0);  // nearly all of it debt
    CHECK(small.take(UINT64_MAX, 0) == UINT64_MAX);
}

TEST_CASE("token bucket: its state goes to another clock, without the time between") {
    const TokenBucketConfig config{100, 50, 1000};
    TokenBucket bucket(config, kSecond_ns);
    REQUIRE(bucket.take(20, kSecond_ns) == 0);   // of the burst
    REQUIRE(bucket.take(130, kSecond_ns) == 0);  // the rest of it and all of the bucket
    const auto copy = [](const TokenBucket& from, uint64_t saved_ns, uint64_t restored_ns) {
        static constexpr RecordType kLeaf{"leaf", "bucket", 1, Need::kRequired};
        RecordWriter writer;
        {
            const auto leaf = writer.leaf(kLeaf);
            from.save(writer, saved_ns);
        }
        const auto bytes = writer.take();
        auto reader = *RecordReader::open(bytes, kLeaf);
        auto restored = *TokenBucket::restore(reader, restored_ns);
        CHECK(reader.finish().has_value());
        return restored;
    };
    // A token takes 10 ms: 5 tokens and half of one are there when it is saved.
    for (const uint64_t now_ns : {uint64_t{0}, uint64_t{7} * kSecond_ns, uint64_t{1'000'000} * kSecond_ns}) {
        TokenBucket restored = copy(bucket, kSecond_ns + 55'000'000, now_ns);
        CHECK(restored.take(6, now_ns) > 0);
        if (now_ns > 0) CHECK(restored.take(6, now_ns + 5'000'000) == 0);
    }
    CHECK_FALSE(copy(TokenBucket(), 0, 0).limits());
}

TEST_CASE("token bucket: a saved field that is out of range is refused by name") {
    static constexpr RecordType kLeaf{"leaf", "bucket", 1, Need::kRequired};
    const auto refusal = [](std::initializer_list<uint64_t> fields, bool has_burst = true) {
        RecordWriter writer;
        {
            const auto leaf = writer.leaf(kLeaf);
            writer.boolean(true);
            writer.u64(*fields.begin());
            writer.boolean(has_burst);
            for (const uint64_t field : std::span(fields.begin() + 1, fields.end())) writer.u64(field);
        }
        const auto bytes = writer.take();
        auto reader = *RecordReader::open(bytes, kLeaf);
        const auto got = TokenBucket::restore(reader, 0);
        return got ? "accepted" : got.error().message;
    };
    CHECK(refusal({100, 50, 1000, 50, 100, 0, 0}) == "accepted");
    CHECK(refusal({0, 50, 1000, 50, 100, 0, 0}) == "bucket.size: 0 is out of range, 1 to 18446744073709551615");
    CHECK(refusal({100, 50, 1000, 0, 100, 0, 0}, false) == "bucket.one_time_burst: 50 is out of range, 0 to 0");
    CHECK(refusal({100, 50, 0, 50, 100, 0, 0}) == "bucket.refill_time_ms: 0 is out of range, 1 to 18446744073709");
    CHECK(refusal({100, 50, UINT64_MAX, 50, 100, 0, 0}) ==
          "bucket.refill_time_ms: 18446744073709551615 is out of range, 1 to 18446744073709");
    CHECK(refusal({100, 50, 1000, 51, 100, 0, 0}) == "bucket.burst: 51 is out of range, 0 to 50");
    CHECK(refusal({100, 50, 1000, 50, 101, 0, 0}) == "bucket.tokens: 101 is out of range, 0 to 100");
    CHECK(refusal({100, 50, 1000, 50, 100, 0, 1'000'000'001}) ==
          "bucket.partial_ns: 1000000001 is out of range, 0 to 1000000000");
}

TEST_CASE("rate limiter: a limit of centuries leaves the loop its turns, and is lifted again") {
    // One limiter's wait ends at the end of 64-bit time, the other's nearly there.
    for (const uint64_t refill_time_ms : {uint64_t{18446744073709}, uint64_t{18446740000000}}) {
        auto loop = *Loop::create();
        int ready = 0;
        RateLimiter limiter(*loop, [&] { ++ready; });
        limiter.update({.ops = TokenBucketConfig{1, 0, refill_time_ms}});
        CHECK(limiter.take(1));
        CHECK_FALSE(limiter.take(1));
        for (int i = 0; i < 100; ++i) REQUIRE(loop->turn(0).has_value());
        CHECK(ready == 0);
        CHECK(limiter.blocked());
        limiter.update({.ops = TokenBucketConfig{}});
        while (ready == 0) REQUIRE(loop->turn(-1).has_value());
        CHECK(limiter.take(1));
    }
}

TEST_CASE("rate limiter: its buckets are saved and restored, and what waited asks again") {
    auto loop = *Loop::create();
    RateLimiter limiter(*loop, [] {}), other(*loop, [] {});
    limiter.update({.bandwidth = TokenBucketConfig{1000, 0, 1'000'000'000}, .ops = TokenBucketConfig{2, 5, 1'000'000}});
    CHECK(limiter.take(1000));
    CHECK_FALSE(limiter.take(1000));
    RecordWriter writer;
    {
        const auto leaf = writer.leaf(RateLimiter::kRecord);
        limiter.save(writer);
    }
    const auto bytes = writer.take();
    auto reader = *RecordReader::open(bytes, RateLimiter::kRecord);
    REQUIRE(other.restore(reader).has_value());
    CHECK(other.limits());
    CHECK_FALSE(other.blocked());
    CHECK_FALSE(other.take(1000));
    CHECK(other.blocked());
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
