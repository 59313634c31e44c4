// SPDX-License-Identifier: Apache-2.0
//
// Faults of the host, one at a time, and full queues under way on the real engines. block_property_test.cc has all of
// them at once, on an engine of its own.
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <set>
#include <thread>

#include "tests/support/block_rig.h"
#include "tests/support/fake_block_io.h"
#include "tests/support/refused_calls.h"

using namespace wisp;
using namespace wisp::virtio;
using wisp::test::block_header;
using wisp::test::divert;
using wisp::test::Drive;
using wisp::test::FakeBlockIo;
using wisp::test::in_child;
using wisp::test::pattern;
using wisp::test::refuse_first_calls;
using wisp::test::TempFile;
using Engine = IoEngine;

namespace {

const Engine kEngines[] = {Engine::kAsync, Engine::kSync};

// ---- one fault, every time ----

struct FaultyDrive {
    FaultyDrive(const TempFile& file, FakeBlockIo::Faults faults)
        : drive(file.path(), {.cache_type = CacheType::kWriteback}, 64,
                [&](Loop&, BlockIoListener& listener, unsigned) -> Result<std::unique_ptr<BlockIo>> {
                    auto made = std::make_unique<FakeBlockIo>(listener, 1, faults);
                    io = made.get();
                    return made;
                }) {}

    // The status of one request. `data` is written, or else 2048 bytes are read, into `read`.
    int status_of(uint32_t type, std::string_view data = {}) {
        auto chain = drive.driver.chain().readable(block_header(type));
        if (!data.empty()) chain.readable(data);
        if (type == VIRTIO_BLK_T_IN) chain.writable(2048);
        chain.writable(1);
        chain.submit();
        drive.block->on_kick(0);
        steps = 0;
        const uint64_t give_up_ns = monotonic_ns() + 20'000'000'000;
        while (!drive.driver.used()) {
            REQUIRE(monotonic_ns() < give_up_ns);  // an answer comes, whatever the host does
            steps += io->step(1);
            REQUIRE(drive.loop->turn(0).has_value());
        }
        if (type == VIRTIO_BLK_T_IN) read = drive.driver.bytes(chain.address(1), 2048);
        return static_cast<uint8_t>(drive.driver.bytes(chain.last_address(), 1)[0]);
    }

    FakeBlockIo* io = nullptr;
    Drive drive;
    std::string read;
    unsigned steps = 0;
};

std::string range(uint64_t sector, uint32_t sectors) {
    const virtio_blk_discard_write_zeroes wire{sector, sectors, 0};
    return {reinterpret_cast<const char*>(&wire), sizeof wire};
}

// ---- full queues ----

constexpr unsigned kRequests = 200;  // more than the drive takes from its queue at a time
constexpr uint32_t kSize = 4096;

// Writes `fill` to every block by one request each, aligned so that O_DIRECT takes them, and kicks. Does not wait.
void fill_queue(Drive& drive, char fill) {
    drive.driver.recycle();
    for (uint64_t block = 0; block < kRequests; ++block) {
        auto chain = drive.driver.chain().indirect().readable(block_header(VIRTIO_BLK_T_OUT, block * 8));
        (void)drive.driver.allocate(kSize - drive.driver.allocate(0) % kSize);
        const uint64_t page = drive.driver.allocate(kSize);
        const std::string data(kSize, fill);
        REQUIRE(drive.memory.write({page}, std::as_bytes(std::span(data))));
        chain.descriptor(page, kSize, 0).writable(1).submit();
    }
    drive.block->on_kick(0);
}

unsigned collect(Drive& drive, unsigned already) {
    std::set<uint16_t> heads;
    for (unsigned i = already; i < kRequests; ++i) REQUIRE(heads.insert(drive.next().head).second);
    CHECK_FALSE(drive.driver.used());
    return static_cast<unsigned>(heads.size());
}

void check_content(const std::string& content, const std::set<char>& possible) {
    for (unsigned block = 0; block < kRequests; ++block) {
        const std::string data = content.substr(block * kSize, kSize);
        REQUIRE(data == std::string(kSize, data[0]));
        REQUIRE(possible.contains(data[0]));
    }
}

unsigned answered(Drive& drive) {
    unsigned count = 0;
    while (drive.driver.used()) ++count;
    return count;
}

}  // namespace

TEST_CASE("block faults: EAGAIN is tried again, and one that does not end is an I/O error") {
    const TempFile file(64 * 512);
    FaultyDrive faulty(file, {.eagain = 100});
    for (const uint32_t type : {VIRTIO_BLK_T_IN, VIRTIO_BLK_T_FLUSH}) {
        CHECK(faulty.status_of(type) == VIRTIO_BLK_S_IOERR);
        CHECK(faulty.steps == limits::kBlockRetries + 1);
    }
    CHECK(faulty.status_of(VIRTIO_BLK_T_OUT, pattern(512, 1)) == VIRTIO_BLK_S_IOERR);
    CHECK(faulty.status_of(VIRTIO_BLK_T_DISCARD, range(0, 8)) == VIRTIO_BLK_S_IOERR);
}

TEST_CASE("block faults: EIO is an I/O error of each request, and the drive goes on") {
    const TempFile file(64 * 512);
    FaultyDrive faulty(file, {.eio = 100});
    for (int i = 0; i < 3; ++i) {
        CHECK(faulty.status_of(VIRTIO_BLK_T_IN) == VIRTIO_BLK_S_IOERR);
        CHECK(faulty.status_of(VIRTIO_BLK_T_OUT, pattern(512, 1)) == VIRTIO_BLK_S_IOERR);
        CHECK(faulty.status_of(VIRTIO_BLK_T_FLUSH) == VIRTIO_BLK_S_IOERR);
        CHECK(faulty.status_of(VIRTIO_BLK_T_WRITE_ZEROES, range(0, 8)) == VIRTIO_BLK_S_IOERR);
    }
    CHECK(faulty.drive.needs_reset.empty());
}

TEST_CASE("block faults: a full host refuses writes, and reads go on") {
    const TempFile file(64 * 512);
    FaultyDrive faulty(file, {.enospc = 100});
    CHECK(faulty.status_of(VIRTIO_BLK_T_OUT, pattern(512, 1)) == VIRTIO_BLK_S_IOERR);
    CHECK(faulty.status_of(VIRTIO_BLK_T_IN) == VIRTIO_BLK_S_OK);
    CHECK(faulty.read == std::string(2048, '\0'));
}

TEST_CASE("block faults: transfers that are always short end with all their bytes in place") {
    const TempFile file(64 * 512);
    FaultyDrive faulty(file, {.cut_short = 100});
    const std::string data = pattern(2048, 7);
    CHECK(faulty.status_of(VIRTIO_BLK_T_OUT, data) == VIRTIO_BLK_S_OK);
    CHECK(faulty.steps > 1);
    CHECK(faulty.status_of(VIRTIO_BLK_T_IN) == VIRTIO_BLK_S_OK);
    CHECK(faulty.read == data);
}

TEST_CASE("block faults: what the host's file system cannot do is done in another way, or was only advice") {
    const TempFile file(64 * 512);
    FaultyDrive faulty(file, {.unsupported = 100});
    if (!(faulty.drive.block->features() & (1u << VIRTIO_BLK_F_DISCARD))) return;  // it cannot at all
    CHECK(faulty.status_of(VIRTIO_BLK_T_OUT, pattern(2048, 7)) == VIRTIO_BLK_S_OK);
    CHECK(faulty.status_of(VIRTIO_BLK_T_DISCARD, range(0, 4)) == VIRTIO_BLK_S_OK);
    CHECK(faulty.status_of(VIRTIO_BLK_T_WRITE_ZEROES, range(0, 4)) == VIRTIO_BLK_S_OK);
    CHECK(faulty.status_of(VIRTIO_BLK_T_IN) == VIRTIO_BLK_S_OK);
    CHECK(faulty.read == std::string(2048, '\0'));
}

TEST_CASE("block faults: what the kernel says of a write is the request's answer, on both engines") {
    for (const Engine engine : kEngines) {
        // A file that is sealed once the drive has it takes no write any more.
        const OwnedFd sealed(memfd_create("drive", MFD_CLOEXEC | MFD_ALLOW_SEALING));
        REQUIRE(ftruncate(sealed.get(), 64 * 512) == 0);
        Drive drive("/proc/self/fd/" + std::to_string(sealed.get()), {.io_engine = engine});
        CHECK(drive.ask(block_header(VIRTIO_BLK_T_OUT), pattern(512, 1)).status == VIRTIO_BLK_S_OK);
        REQUIRE(fcntl(sealed.get(), F_ADD_SEALS, F_SEAL_WRITE) == 0);
        CHECK(drive.ask(block_header(VIRTIO_BLK_T_OUT), pattern(512, 2)).status == VIRTIO_BLK_S_IOERR);
        // Too large to be written at once: through the ring.
        CHECK(drive.ask(block_header(VIRTIO_BLK_T_OUT), pattern(64 * 512, 3)).status == VIRTIO_BLK_S_IOERR);
        CHECK(drive.ask(block_header(VIRTIO_BLK_T_IN), {}, 512).data == pattern(512, 1));
    }
}

TEST_CASE("block faults: with O_DIRECT, too, a file truncated under the guest is an I/O error where it ends") {
    for (const Engine engine : kEngines) {
        const TempFile file(std::string(64 * 512, 'x'));
        if (!BlockFile::open(file.path(), BlockFile::Access::kReadWrite, BlockFile::Cache::kDirect, "probe")) return;
        Drive drive(file, {.io_engine = engine, .host_cache = BlockFile::Cache::kDirect});
        file.resize(16 * 512 + 100);
        // A page of guest memory, so that O_DIRECT is what reads.
        auto read = [&](uint64_t sector, uint32_t size) {
            drive.driver.recycle();
            auto chain = drive.driver.chain().readable(block_header(VIRTIO_BLK_T_IN, sector));
            (void)drive.driver.allocate(kSize - drive.driver.allocate(0) % kSize);
            const uint64_t page = drive.driver.allocate(size);
            chain.descriptor(page, size, 2).writable(1).submit();
            (void)drive.wait();
            return static_cast<uint8_t>(drive.driver.bytes(chain.last_address(), 1)[0]);
        };
        CHECK(read(8, 4096) == VIRTIO_BLK_S_OK);
        CHECK(read(8, 8192) == VIRTIO_BLK_S_IOERR);
        CHECK(read(16, 4096) == VIRTIO_BLK_S_IOERR);
        CHECK(read(32, 4096) == VIRTIO_BLK_S_IOERR);
    }
}

TEST_CASE("block faults: a host without io_uring gets the other engine", "[filters]") {
    for (const int error : {ENOSYS, EPERM}) {
        CHECK(in_child([&] {
            if (divert(SYS_io_uring_setup, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)) < 0) return false;
            const TempFile file(64 * 512);
            Drive drive(file, {.io_engine = Engine::kAsync});
            return !drive.loop->uses_io_uring() &&
                   drive.ask(block_header(VIRTIO_BLK_T_OUT), pattern(512, 1)).status == VIRTIO_BLK_S_OK &&
                   drive.ask(block_header(VIRTIO_BLK_T_IN), {}, 512).data == pattern(512, 1);
        }));
    }
}

TEST_CASE("block faults: a ring that takes no submissions for a while loses none", "[filters]") {
    CHECK(in_child([] {
        const TempFile file(pattern(256 * 512, 5));
        Drive drive(file, {.io_engine = Engine::kAsync}, 256);
        if (!drive.loop->uses_io_uring()) return true;  // a host without io_uring
        constexpr int kMost = 5;
        std::atomic<int> listener = -1, refused = 0;
        std::thread([&] { refuse_first_calls(listener, refused, kMost); }).detach();
        listener = divert(SYS_io_uring_enter, SECCOMP_RET_USER_NOTIF);
        if (listener < 0) return false;
        std::vector<uint64_t> data;
        for (uint64_t i = 0; i < 256; ++i) {
            auto chain = drive.driver.chain().indirect().readable(block_header(VIRTIO_BLK_T_IN, i)).writable(512);
            data.push_back(chain.last_address());
            chain.writable(1).submit();
        }
        (void)drive.wait();
        for (unsigned i = 1; i < 256; ++i) (void)drive.next();
        for (size_t i = 0; i < data.size(); ++i)
            if (drive.driver.bytes(data[i], 512) != pattern(256 * 512, 5).substr(i * 512, 512)) return false;
        return refused == kMost && !drive.driver.used();
    }));
}

TEST_CASE("block faults: a full queue under way at a reset, a pause, an exchange of the file, and the end") {
    for (const auto cache : {BlockFile::Cache::kPageCache, BlockFile::Cache::kDirect}) {
        for (const Engine engine : kEngines) {
            const TempFile file(std::string(kRequests * kSize, 'a')), other(std::string(kRequests * kSize, 'a'));
            if (!BlockFile::open(file.path(), BlockFile::Access::kReadWrite, cache, "probe")) continue;
            const BlockConfig config{.io_engine = engine, .host_cache = cache};
            for (int round = 0; round < 12; ++round) {
                const char before = static_cast<char>('a' + 2 * round), after = static_cast<char>(before + 2);
                Drive drive(file, config, 256);
                fill_queue(drive, static_cast<char>(before + 1));
                unsigned seen = answered(drive);
                if (round % 4 == 0) {
                    drive.reset();
                    check_content(file.content(), {before, static_cast<char>(before + 1)});
                    drive.driver.restart();
                    drive.activate();
                } else if (round % 4 == 1) {
                    bool paused = false;
                    drive.block->pause([&] { paused = true; });
                    drive.turn_until(paused);
                    seen += answered(drive);
                    const std::string now = file.content();
                    for (int i = 0; i < 3; ++i) REQUIRE(drive.loop->turn(0).has_value());
                    CHECK(answered(drive) == 0);
                    CHECK(file.content() == now);
                    drive.block->resume();
                    CHECK(collect(drive, seen) == kRequests - seen);
                    check_content(file.content(), {static_cast<char>(before + 1)});
                } else if (round % 4 == 2) {
                    bool done = false;
                    REQUIRE(drive.block->replace_file(other.path(), [&](Result<void> result) { done = bool{result}; })
                                .has_value());
                    drive.turn_until(done);
                    collect(drive, seen);
                    // Each request went to one file or the other.
                    const std::string first = file.content(), second = other.content();
                    for (unsigned block = 0; block < kRequests; ++block)
                        REQUIRE((first[block * kSize] == before + 1 || second[block * kSize] == before + 1));
                    done = false;
                    REQUIRE(drive.block->replace_file(file.path(), [&](Result<void> result) { done = bool{result}; })
                                .has_value());
                    REQUIRE(done);
                } else {
                    drive.block.reset();
                    check_content(file.content(), {before, static_cast<char>(before + 1)});
                    Drive next(file, config, 256);
                    fill_queue(next, after);
                    CHECK(collect(next, 0) == kRequests);
                    continue;
                }
                fill_queue(drive, after);
                CHECK(collect(drive, 0) == kRequests);
                check_content(file.content(), {after});
            }
        }
    }
}

TEST_CASE("block faults: close() flushes after the writes in flight, and gives up at its deadline") {
    const TempFile file(64 * 512);
    for (const bool stuck : {false, true}) {
        FaultyDrive faulty(file, {});
        std::vector<std::string> order;
        faulty.io->on_flush = [&] {
            order.emplace_back(faulty.drive.block->counters().write_count ? "after" : "before");
        };
        faulty.drive.driver.chain()
            .readable(block_header(VIRTIO_BLK_T_OUT))
            .readable(pattern(512, 1))
            .writable(1)
            .submit();
        faulty.drive.block->on_kick(0);
        faulty.drive.block->close(stuck ? 0 : monotonic_ns() + 20'000'000'000);
        CHECK(order == (stuck ? std::vector<std::string>{} : std::vector<std::string>{"after"}));
        if (stuck)
            while (faulty.io->step(1) > 0) {
            }
    }
}
