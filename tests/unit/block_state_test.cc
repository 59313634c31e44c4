// SPDX-License-Identifier: Apache-2.0
//
// A drive's record: what comes back is what was saved, and each field out of range is refused by its name.
#include <linux/virtio_blk.h>

#include <catch2/catch.hpp>
#include <functional>

#include "base/record.h"
#include "tests/support/block_rig.h"

using namespace wisp;
using namespace wisp::virtio;
using wisp::test::Drive;
using wisp::test::TempFile;

namespace {

constexpr RecordType kBlock{"blck", "block", 1, Need::kRequired};
constexpr RecordType kDisk{"disk", "disk", 1, Need::kRequired};

std::vector<std::byte> saved(const Block& block) {
    RecordWriter writer;
    {
        const auto group = writer.group(kBlock);
        block.save(writer);
    }
    return writer.take();
}

Result<void> restore(Block& block, std::span<const std::byte> bytes) {
    RecordReader reader = TRY(RecordReader::open(bytes, kBlock));
    TRY(block.restore(reader));
    return reader.finish();
}

virtio_blk_config space_of(Block& block) {
    virtio_blk_config space{};
    block.read_config(0, std::as_writable_bytes(std::span(&space, 1)));
    return space;
}

std::unique_ptr<Block> make(Loop& loop, const TempFile& file, BlockConfig config = {}) {
    config.id = "d";
    config.path = file.path();
    return *Block::create(loop, config);
}

struct Fields {
    uint64_t sectors = 8, features = 1ull << VIRTIO_BLK_F_SEG_MAX;
    uint32_t block_size = 512;
    uint16_t queues = 1;
    uint8_t read_only = 0;
    struct Bucket {
        uint64_t size = 100, one_time_burst = 10, refill_time_ms = 50, burst = 5, tokens = 50, debt = 0, since = 0;
    } bandwidth;

    std::vector<std::byte> record() const {
        RecordWriter writer;
        {
            const auto drive = writer.group(kBlock);
            {
                const auto disk = writer.leaf(kDisk);
                writer.u64(sectors);
                writer.u64(features);
                writer.u32(block_size);
                writer.u16(queues);
                writer.u8(read_only);
                writer.bytes(std::vector<std::byte>(VIRTIO_BLK_ID_BYTES));
            }
            const auto limiter = writer.leaf(RateLimiter::kRecord);
            writer.boolean(true);
            writer.u64(bandwidth.size);
            writer.boolean(true);
            for (const uint64_t value : {bandwidth.one_time_burst, bandwidth.refill_time_ms, bandwidth.burst,
                                         bandwidth.tokens, bandwidth.debt, bandwidth.since})
                writer.u64(value);
            writer.boolean(false);  // no limit of operations
        }
        return writer.take();
    }
};

}  // namespace

TEST_CASE("block state: another drive shows the driver what it knows, and holds the same limits") {
    auto loop = *Loop::create();
    const TempFile file(100 * 512), larger(300 * 512);
    BlockConfig config;
    config.cache_type = CacheType::kWriteback;
    config.rate_limiter.bandwidth = TokenBucketConfig{1 << 20, 1 << 10, 100'000};
    config.rate_limiter.ops = TokenBucketConfig{1000, 0, 100'000};
    const auto first = make(*loop, file, config);
    const auto bytes = saved(*first);

    const auto second = make(*loop, larger);
    CHECK(space_of(*second).capacity == 300);
    const auto restored = restore(*second, bytes);
    INFO((restored ? "" : restored.error().message));
    REQUIRE(restored.has_value());
    CHECK(space_of(*second).capacity == 100);
    CHECK(second->features() == first->features());
    CHECK(saved(*second) == bytes);
}

TEST_CASE("block state: tokens that were spent stay spent") {
    const TempFile file(100 * 512);
    BlockConfig config;
    config.rate_limiter.ops = TokenBucketConfig{2, 0, 1'000'000'000};
    Drive drive(file, config);
    for (int i = 0; i < 2; ++i)
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN), {}, 512).status == VIRTIO_BLK_S_OK);
    const auto bytes = saved(*drive.block);
    drive.reset();
    drive.driver.restart();
    REQUIRE(restore(*drive.block, bytes).has_value());
    drive.activate();
    drive.driver.chain().readable(test::block_header(VIRTIO_BLK_T_IN)).writable(512).writable(1).submit();
    drive.block->on_kick(0);
    for (int i = 0; i < 3; ++i) REQUIRE(drive.loop->turn(0).has_value());
    CHECK_FALSE(drive.driver.used());
    CHECK(drive.block->counters().rate_limiter_throttled_events == 1);
}

TEST_CASE("block state: each field out of range is refused by its name") {
    auto loop = *Loop::create();
    const TempFile file(8 * 512);
    const auto block = make(*loop, file);
    REQUIRE(restore(*block, Fields{}.record()).has_value());
    using Change = std::function<void(Fields&)>;
    const std::pair<const char*, Change> kChanges[] = {
        {"block.disk.sectors", [](Fields& fields) { fields.sectors = 9; }},
        {"block.disk.features", [](Fields& fields) { fields.features |= 1ull << 40; }},
        {"block.disk.block_size", [](Fields& fields) { fields.block_size = 256; }},
        {"block.disk.block_size", [](Fields& fields) { fields.block_size = 1000; }},
        {"block.disk.block_size", [](Fields& fields) { fields.block_size = 1 << 20; }},
        {"block.disk.queues", [](Fields& fields) { fields.queues = 2; }},
        {"block.disk.read_only", [](Fields& fields) { fields.read_only = 1; }},
        {"block.disk.read_only", [](Fields& fields) { fields.read_only = 2; }},
        {"block.rate_limiter.burst", [](Fields& fields) { fields.bandwidth.burst = 11; }},
        {"block.rate_limiter.tokens", [](Fields& fields) { fields.bandwidth.tokens = 101; }},
        {"block.rate_limiter.partial_ns", [](Fields& fields) { fields.bandwidth.since = 50'000'001; }},
    };
    for (const auto& [name, change] : kChanges) {
        Fields fields;
        change(fields);
        const auto result = restore(*block, fields.record());
        REQUIRE_FALSE(result.has_value());
        INFO(result.error().message);
        CHECK(result.error().message.starts_with(std::string(name) + ":"));
    }
}
