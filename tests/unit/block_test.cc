// SPDX-License-Identifier: Apache-2.0
#include "virtio/block/device.h"

#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "base/endian.h"
#include "tests/support/block_rig.h"
#include "tests/support/temp_file.h"

using namespace wisp;
using namespace wisp::virtio;
using wisp::test::Drive;
using wisp::test::pattern;
using wisp::test::TempFile;
using Engine = IoEngine;

namespace {

const Engine kEngines[] = {Engine::kAsync, Engine::kSync};

std::string why_not(Loop& loop, BlockConfig config) {
    config.id = "d";
    auto block = Block::create(loop, std::move(config));
    return block ? "" : block.error().message;
}

}  // namespace

TEST_CASE("block: what cannot be a drive is refused with a reason") {
    auto loop = *Loop::create();
    CHECK(why_not(*loop, {.path = "/nonexistent/disk"}) ==
          "drive d: cannot use /nonexistent/disk: No such file or directory");
    CHECK(why_not(*loop, {.path = "/tmp"}) == "drive d: /tmp is neither a regular file nor a block device");
    CHECK(why_not(*loop, {.path = "/dev/null"}).find("neither") != std::string::npos);
    const TempFile good(512);
    CHECK(why_not(*loop, {.path = good.path()}) == "");
    if (geteuid() != 0) {
        chmod(good.path().c_str(), 0444);
        CHECK(why_not(*loop, {.path = good.path()}).find("Permission denied") != std::string::npos);
        CHECK(why_not(*loop, {.path = good.path(), .read_only = true}) == "");
    }
}

TEST_CASE("block: the configuration says how large it is and how a request may look") {
    const TempFile file(10 * 512 + 100);
    Drive drive(file, {});
    virtio_blk_config space{};
    drive.block->read_config(0, std::as_writable_bytes(std::span(&space, 1)));
    CHECK(space.capacity == 10);
    CHECK(space.seg_max == limits::kBlockSegments);
    std::byte beyond[4] = {std::byte{9}};
    drive.block->read_config(1000, beyond);
    CHECK(beyond[0] == std::byte{0});
    constexpr uint64_t kAlways = (1u << VIRTIO_BLK_F_SEG_MAX) | (1u << VIRTIO_BLK_F_SIZE_MAX);
    constexpr uint64_t kIfTheFileCan = (1u << VIRTIO_BLK_F_DISCARD) | (1u << VIRTIO_BLK_F_WRITE_ZEROES);
    CHECK((drive.block->features() & ~kIfTheFileCan) == kAlways);
}

TEST_CASE("block: what is written is read, and lies in the file") {
    for (const Engine engine : kEngines) {
        const TempFile file(64 * 512);
        Drive drive(file, {.io_engine = engine});
        const std::string data = pattern(1024, 3);
        auto answer = drive.ask(test::block_header(VIRTIO_BLK_T_OUT, 5), data);
        CHECK(answer.status == VIRTIO_BLK_S_OK);
        CHECK(answer.written == 1);
        CHECK(file.content().substr(5 * 512, 1024) == data);
        answer = drive.ask(test::block_header(VIRTIO_BLK_T_IN, 5), {}, 1024);
        CHECK(answer.status == VIRTIO_BLK_S_OK);
        CHECK(answer.written == 1025);
        CHECK(answer.data == data);
    }
}

TEST_CASE("block: a request may be cut into segments anyhow") {
    for (const Engine engine : kEngines) {
        const TempFile file(pattern(4096, 0));
        Drive drive(file, {.io_engine = engine});
        const std::string head = test::block_header(VIRTIO_BLK_T_IN, 1);
        auto chain = drive.driver.chain();
        for (const char c : head) chain.readable(std::string_view(&c, 1));
        chain.writable(100).writable(1).writable(923 + 1);  // the status byte is the last of the last
        chain.submit();
        const auto used = drive.wait();
        CHECK(used.written == 1025);
        CHECK(drive.driver.bytes(chain.address(16), 100) == file.content().substr(512, 100));
        CHECK(drive.driver.bytes(chain.address(18), 923) == file.content().substr(512 + 101, 923));
        CHECK(drive.driver.bytes(chain.address(18) + 923, 1)[0] == VIRTIO_BLK_S_OK);
    }
}

TEST_CASE("block: BadHeaderShort, BadSector, BadLength, BadType and their like are errors of that request alone") {
    const TempFile file(64 * 512);
    Drive drive(file, {});
    constexpr int kError = VIRTIO_BLK_S_IOERR, kUnsupported = VIRTIO_BLK_S_UNSUPP;
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN).substr(0, 15), {}, 512).status == kError);
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN, 64), {}, 512).status == kError);
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN, 63), {}, 1024).status == kError);
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN, UINT64_MAX), {}, 512).status == kError);
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN, UINT64_MAX / 512), {}, 1024).status == kError);
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN), {}, 511).status == kError);
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN), {}, 0).status == kError);
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN), "data", 512).status == kError);
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_OUT), std::string(512, 'x'), 1).status == kError);
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_OUT), std::string(100, 'x')).status == kError);
    CHECK(drive.ask(test::block_header(77)).status == kUnsupported);
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_FLUSH)).status == kUnsupported);  // cache_type Unsafe
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_GET_ID), {}, 19).status == kError);
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN, 63), {}, 512).status == VIRTIO_BLK_S_OK);
    CHECK(drive.needs_reset.empty());
}

TEST_CASE("block: a chain without room for a status byte comes back with length 0") {
    const TempFile file(64 * 512);
    Drive drive(file, {});
    drive.driver.chain().readable(test::block_header(VIRTIO_BLK_T_OUT)).readable(std::string(512, 'x')).submit();
    CHECK(drive.wait().written == 0);
    CHECK(file.content()[0] == 0);
    drive.driver.chain().descriptor(1ull << 45, 512, 0).submit();
    CHECK(drive.wait().written == 0);
}

TEST_CASE("block: a broken ring asks for a reset, and the drive works again after it") {
    const TempFile file(64 * 512);
    Drive drive(file, {});
    drive.driver.set_available_index(200);
    drive.block->on_kick(0);
    CHECK_FALSE(drive.needs_reset.empty());
    drive.reset();
    drive.driver.restart();
    drive.activate();
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN), {}, 512).status == VIRTIO_BLK_S_OK);
}

TEST_CASE("block: a read-only drive gives an I/O error for writes and does not change") {
    const TempFile file(pattern(4096, 1));
    const std::string before = file.content();
    Drive drive(file, {.read_only = true});
    CHECK(drive.block->features() & (1u << VIRTIO_BLK_F_RO));
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_OUT), std::string(512, 'x')).status == VIRTIO_BLK_S_IOERR);
    CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN), {}, 512).data == before.substr(0, 512));
    CHECK(file.content() == before);
}

TEST_CASE("block: flush is offered with Writeback, and works") {
    for (const Engine engine : kEngines) {
        const TempFile file(4096);
        Drive drive(file, {.cache_type = CacheType::kWriteback, .io_engine = engine});
        CHECK(drive.block->features() & (1u << VIRTIO_BLK_F_FLUSH));
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_FLUSH)).status == VIRTIO_BLK_S_OK);
    }
}

TEST_CASE("block: the device ID is made of the file's device and inode") {
    const TempFile file(4096);
    Drive drive(file, {});
    struct stat info{};
    stat(file.path().c_str(), &info);
    std::string expected = std::to_string(info.st_dev) + std::to_string(info.st_rdev) + std::to_string(info.st_ino);
    expected.resize(20);
    const auto answer = drive.ask(test::block_header(VIRTIO_BLK_T_GET_ID), {}, 20);
    CHECK(answer.status == VIRTIO_BLK_S_OK);
    CHECK(answer.data == expected);
    CHECK(answer.written == 21);
}

TEST_CASE("block: a file truncated under the guest is an I/O error where it ends, and data before") {
    for (const Engine engine : kEngines) {
        const TempFile file(64 * 512);
        Drive drive(file, {.io_engine = engine});
        file.resize(10 * 512 + 7);
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN, 9), {}, 512).status == VIRTIO_BLK_S_OK);
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN, 10), {}, 512).status == VIRTIO_BLK_S_IOERR);
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN, 40), {}, 512).status == VIRTIO_BLK_S_IOERR);
    }
}

TEST_CASE("block: many requests of one kick are answered, and told of once") {
    for (const Engine engine : kEngines) {
        const TempFile file(1 << 20);
        Drive drive(file, {.io_engine = engine}, 256);
        // Indirect chains, so that a full queue is more than the drive takes at once.
        for (int i = 0; i < 256; ++i)
            drive.driver.chain()
                .indirect()
                .readable(test::block_header(VIRTIO_BLK_T_IN, static_cast<uint64_t>(i)))
                .writable(512)
                .writable(1)
                .submit();
        (void)drive.wait();
        for (int i = 1; i < 256; ++i) CHECK(drive.next().written == 513);
        CHECK(drive.interrupts == 1);  // the driver's used event stayed at 0
    }
}

TEST_CASE("block: a paused drive takes nothing until it is resumed") {
    for (const Engine engine : kEngines) {
        const TempFile file(1 << 20);
        Drive drive(file, {.io_engine = engine});
        bool paused = false;
        drive.block->pause([&] { paused = true; });
        CHECK(paused);
        drive.driver.chain().readable(test::block_header(VIRTIO_BLK_T_IN)).writable(512).writable(1).submit();
        drive.block->on_kick(0);
        REQUIRE(drive.loop->turn(0).has_value());
        CHECK_FALSE(drive.driver.used());
        drive.block->resume();
        CHECK(drive.wait().written == 513);
    }
}

TEST_CASE("block: discard and write-zeroes give zeroes, within the disk and the announced length") {
    for (const Engine engine : kEngines) {
        const TempFile file(std::string(64 * 512, 'x'));
        Drive drive(file, {.io_engine = engine});
        if (!(drive.block->features() & (1u << VIRTIO_BLK_F_DISCARD))) return;  // the host's file system cannot
        auto range = [](uint64_t sector, uint32_t sectors, uint32_t flags) {
            const virtio_blk_discard_write_zeroes wire{sector, sectors, flags};
            return std::string(reinterpret_cast<const char*>(&wire), sizeof wire);
        };
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_WRITE_ZEROES), range(8, 2, 0)).status == VIRTIO_BLK_S_OK);
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_WRITE_ZEROES), range(16, 2, 1)).status == VIRTIO_BLK_S_OK);
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_DISCARD), range(24, 8, 0)).status == VIRTIO_BLK_S_OK);
        std::string expected(64 * 512, 'x');
        for (const auto& [sector, sectors] : {std::pair{8, 2}, {16, 2}, {24, 8}})
            expected.replace(static_cast<size_t>(sector) * 512, static_cast<size_t>(sectors) * 512,
                             static_cast<size_t>(sectors) * 512, '\0');
        CHECK(file.content() == expected);

        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_DISCARD), range(63, 2, 0)).status == VIRTIO_BLK_S_IOERR);
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_DISCARD), range(UINT64_MAX, 2, 0)).status ==
              VIRTIO_BLK_S_IOERR);
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_DISCARD), range(0, 0, 0)).status == VIRTIO_BLK_S_IOERR);
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_DISCARD), range(0, 8, 1)).status == VIRTIO_BLK_S_UNSUPP);
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_WRITE_ZEROES), range(0, 8, 2)).status == VIRTIO_BLK_S_UNSUPP);
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_DISCARD), range(0, 8, 0) + "more").status ==
              VIRTIO_BLK_S_IOERR);
        CHECK(file.content() == expected);
    }
}

TEST_CASE("block: a read-only drive offers neither discard nor write-zeroes") {
    const TempFile file(4096);
    Drive drive(file, {.read_only = true});
    CHECK_FALSE(drive.block->features() & ((1u << VIRTIO_BLK_F_DISCARD) | (1u << VIRTIO_BLK_F_WRITE_ZEROES)));
}

TEST_CASE("block: with O_DIRECT, aligned or not, all that is written is read") {
    for (const Engine engine : kEngines) {
        const TempFile file(1 << 20);
        auto direct = BlockFile::open(file.path(), BlockFile::Access::kReadWrite, BlockFile::Cache::kDirect, "probe");
        if (!direct) return;  // the host's file system has no O_DIRECT
        Drive drive(file, {.io_engine = engine, .host_cache = BlockFile::Cache::kDirect});
        CHECK(drive.block->features() & (1u << VIRTIO_BLK_F_BLK_SIZE));
        virtio_blk_config space{};
        drive.block->read_config(0, std::as_writable_bytes(std::span(&space, 1)));
        CHECK(space.blk_size == direct->block_size);
        // Buffers follow 16-byte headers, so they lie anywhere; every third is on a page.
        int seed = 0;
        for (const uint64_t sector : {0, 8, 16, 3, 24, 100, 1024}) {
            for (const size_t size : {512, 4096, 8192, 12800}) {
                const std::string data = pattern(size, ++seed);
                CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_OUT, sector), data).status == VIRTIO_BLK_S_OK);
                CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN, sector), {}, static_cast<uint32_t>(size)).data ==
                      data);
                drive.driver.recycle();
                auto chain = drive.driver.chain().readable(test::block_header(VIRTIO_BLK_T_IN, sector));
                (void)drive.driver.allocate(4096 - drive.driver.allocate(0) % 4096);
                const uint64_t page = drive.driver.allocate(size);
                chain.descriptor(page, static_cast<uint32_t>(size), 2).writable(1).submit();
                CHECK(drive.wait().written == size + 1);
                CHECK(drive.driver.bytes(page, size) == data);
            }
        }
    }
}

TEST_CASE("block: another file takes the drive's place, with its size, and the driver is told") {
    for (const Engine engine : kEngines) {
        const TempFile first(std::string(4096, 'a')), second(std::string(8192, 'b'));
        Drive drive(first, {.io_engine = engine});
        CHECK_FALSE(drive.block->replace_file("/nonexistent", [](Result<void>) { FAIL(); }).has_value());
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN, 8), {}, 512).status == VIRTIO_BLK_S_IOERR);
        bool done = false;
        REQUIRE(drive.block->replace_file(second.path(), [&](Result<void> result) { done = result.has_value(); })
                    .has_value());
        CHECK(done);
        CHECK(drive.config_changes == 1);
        le64 capacity;
        drive.block->read_config(0, std::as_writable_bytes(std::span(&capacity, 1)));
        CHECK(capacity == 16);
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN, 8), {}, 512).data == std::string(512, 'b'));
        CHECK(drive.block->config().path == second.path());
    }
}

TEST_CASE("block: a rate limit holds back requests, not the loop, and a pause does not wait for it") {
    const TempFile file(1 << 20);
    BlockConfig config;
    config.rate_limiter.ops = TokenBucketConfig{4, 0, 40};
    Drive drive(file, config);
    const uint64_t start_ns = monotonic_ns();
    for (int i = 0; i < 8; ++i)
        drive.driver.chain()
            .indirect()
            .readable(test::block_header(VIRTIO_BLK_T_IN))
            .writable(512)
            .writable(1)
            .submit();
    for (int i = 0; i < 4; ++i) CHECK(drive.wait().written == 513);
    CHECK_FALSE(drive.driver.used());
    bool paused = false;
    drive.block->pause([&] { paused = true; });
    CHECK(paused);
    drive.block->resume();
    for (int i = 0; i < 4; ++i) CHECK(drive.next().written == 513);
    CHECK(monotonic_ns() - start_ns >= 39'000'000);
}

TEST_CASE("block: the rate in the long run is what was asked for") {
    constexpr uint64_t kBurst = 200, kRefill_ms = 200;  // 1000 requests a second
    for (const bool by_bandwidth : {false, true}) {
        const TempFile file(1 << 20);
        BlockConfig config;
        if (by_bandwidth)
            config.rate_limiter.bandwidth = TokenBucketConfig{kBurst * 512, 0, kRefill_ms};
        else
            config.rate_limiter.ops = TokenBucketConfig{kBurst, 0, kRefill_ms};
        const uint64_t start_ns = monotonic_ns();
        Drive drive(file, config);
        const auto send = [&] {
            drive.driver.chain()
                .indirect()
                .readable(test::block_header(VIRTIO_BLK_T_IN))
                .writable(512)
                .writable(1)
                .submit();
        };
        for (int i = 0; i < 32; ++i) send();
        drive.block->on_kick(0);
        uint64_t done = 0, elapsed_ns = 0;
        while (elapsed_ns < 800'000'000) {
            REQUIRE(drive.loop->turn(1'000'000).has_value());
            while (drive.driver.used()) {
                ++done;
                send();
            }
            elapsed_ns = monotonic_ns() - start_ns;
        }
        const double expected = kBurst + static_cast<double>(elapsed_ns) * kBurst / (kRefill_ms * 1e6);
        INFO(done << " requests instead of " << expected);
        CHECK(static_cast<double>(done) <= expected);
        CHECK(static_cast<double>(done) >= 0.98 * expected);
    }
}

TEST_CASE("block: an empty file is a disk of no sectors, and a PATCH gives it some and takes them back") {
    const TempFile empty(uint64_t{0}), tiny(511), real(std::string(4096, 'r'));
    for (const TempFile* placeholder : {&empty, &tiny}) {
        Drive drive(*placeholder, {});
        auto capacity = [&] {
            le64 sectors;
            drive.block->read_config(0, std::as_writable_bytes(std::span(&sectors, 1)));
            return uint64_t{sectors};
        };
        auto put = [&](const TempFile& file) {
            bool done = false;
            REQUIRE(drive.block->replace_file(file.path(), [&](Result<void> result) { done = result.has_value(); })
                        .has_value());
            drive.turn_until(done);
        };
        CHECK(capacity() == 0);
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN), {}, 512).status == VIRTIO_BLK_S_IOERR);
        put(real);
        CHECK(capacity() == 8);
        CHECK(drive.config_changes == 1);
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN), {}, 512).data == std::string(512, 'r'));
        put(*placeholder);
        CHECK(capacity() == 0);
        CHECK(drive.config_changes == 2);
        CHECK(drive.ask(test::block_header(VIRTIO_BLK_T_IN), {}, 512).status == VIRTIO_BLK_S_IOERR);
    }
}

TEST_CASE("block: a FIFO, a directory or a socket in the file's place is refused at once") {
    const TempFile file(4096);
    const std::string fifo = file.path() + ".fifo";
    REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
    for (const bool read_only : {false, true})
        for (const auto cache : {BlockFile::Cache::kPageCache, BlockFile::Cache::kDirect}) {
            const auto access = read_only ? BlockFile::Access::kReadOnly : BlockFile::Access::kReadWrite;
            CHECK_FALSE(BlockFile::open(fifo, access, cache, "probe").has_value());
            CHECK_FALSE(BlockFile::open("/tmp", access, cache, "probe").has_value());
        }
    Drive drive(file, {});
    CHECK_FALSE(drive.block->replace_file(fifo, [](Result<void>) { FAIL(); }).has_value());
    unlink(fifo.c_str());
    // io_uring refuses what it cannot do at once on a descriptor that was opened O_NONBLOCK.
    const auto opened = BlockFile::open(file.path(), BlockFile::Access::kReadWrite, BlockFile::Cache::kPageCache, "p");
    REQUIRE(opened.has_value());
    CHECK((fcntl(opened->fd.get(), F_GETFL) & O_NONBLOCK) == 0);
}

TEST_CASE(
    "block: a request longer than the largest is refused, and a segment longer than SIZE_MAX if that was negotiated") {
    const TempFile file(32 << 20);
    Drive drive(file, {}, 256);
    // All segments name the same memory, as a hostile guest's may.
    const uint64_t data = drive.driver.allocate(limits::kBlockSegmentSize + 512);
    auto ask = [&](unsigned segments, uint32_t length) {
        auto chain = drive.driver.chain().indirect().readable(test::block_header(VIRTIO_BLK_T_IN));
        for (unsigned i = 0; i < segments; ++i) chain.descriptor(data, length, 2);
        chain.writable(1);
        chain.submit();
        (void)drive.wait();
        return static_cast<uint8_t>(drive.driver.bytes(chain.last_address(), 1)[0]);
    };
    CHECK(ask(limits::kBlockSegments, limits::kBlockSegmentSize) == VIRTIO_BLK_S_OK);
    CHECK(ask(limits::kBlockSegments + 1, limits::kBlockSegmentSize) == VIRTIO_BLK_S_IOERR);
    CHECK(ask(1, limits::kBlockSegmentSize + 512) == VIRTIO_BLK_S_IOERR);
}

TEST_CASE("block: the bytes in flight are bounded, and all requests are answered") {
    for (const Engine engine : kEngines) {
        const TempFile file(32 << 20);
        Drive drive(file, {.io_engine = engine}, 256);
        const uint64_t data = drive.driver.allocate(limits::kBlockSegmentSize);
        for (int i = 0; i < 12; ++i) {
            auto chain = drive.driver.chain().indirect().readable(test::block_header(VIRTIO_BLK_T_IN));
            for (unsigned j = 0; j < limits::kBlockSegments; ++j) chain.descriptor(data, limits::kBlockSegmentSize, 2);
            chain.writable(1);
            chain.submit();
        }
        drive.block->on_kick(0);
        for (int i = 0; i < 12; ++i) CHECK(drive.next().written == limits::kBlockRequestBytes + 1);
        CHECK(drive.block->counters().io_engine_throttled_events + drive.block->counters().remaining_reqs_count > 0);
    }
}

TEST_CASE("block: close() completes what is in flight and flushes a Writeback drive") {
    for (const Engine engine : kEngines) {
        const TempFile file(1 << 20);
        Drive drive(file, {.cache_type = CacheType::kWriteback, .io_engine = engine});
        for (int i = 0; i < 16; ++i)
            drive.driver.chain()
                .indirect()
                .readable(test::block_header(VIRTIO_BLK_T_OUT, static_cast<uint64_t>(i)))
                .readable(pattern(512, i))
                .writable(1)
                .submit();
        drive.block->on_kick(0);
        drive.block->close(monotonic_ns() + 20'000'000'000);
        for (size_t i = 0; i < 16; ++i) CHECK(file.content().substr(i * 512, 512) == pattern(512, static_cast<int>(i)));
        // Nothing is taken afterwards.
        const auto before = drive.block->counters().read_count;
        drive.driver.chain()
            .indirect()
            .readable(test::block_header(VIRTIO_BLK_T_IN))
            .writable(512)
            .writable(1)
            .submit();
        drive.block->on_kick(0);
        REQUIRE(drive.loop->turn(0).has_value());
        CHECK(drive.block->counters().read_count == before);
    }
}
