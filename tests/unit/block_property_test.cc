// SPDX-License-Identifier: Apache-2.0
//
// A drive on an engine that fails, shortens, delays and reorders as a seed decides, with resets, pauses and other files
// in between. What must hold whatever happens: each request is answered once or dropped by a reset; a write that was
// answered with OK is what is read; a flush never overtakes a write that came before it; a drain ends with nothing in
// flight.
#include <linux/virtio_blk.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include "tests/support/fake_block_io.h"
#include "tests/support/fake_driver.h"
#include "tests/support/temp_file.h"
#include "virtio/block/device.h"

using namespace wisp;
using namespace wisp::virtio;
using wisp::test::FakeBlockIo;
using wisp::test::FakeDriver;
using wisp::test::TempFile;

namespace {

constexpr uint64_t kRing = kFeatureVersion1 | kFeatureEventIdx | kFeatureIndirectDesc;
constexpr unsigned kMostBlocks = 230;
constexpr unsigned kBlockSize = 2048;
constexpr unsigned kSectorsPerBlock = kBlockSize / 512;

class Torture final : Interrupt {
public:
    /// kDeep: more requests at a time than the drive's pool has, so that its queue stays full.
    enum class Depth : uint8_t { kShallow, kDeep };

    Torture(uint32_t seed, FakeBlockIo::Faults faults, Depth depth)
        : random_(seed),
          blocks_(depth == Depth::kDeep ? kMostBlocks : 24),
          most_(depth == Depth::kDeep ? 200 : 20),
          sends_(depth == Depth::kDeep ? 80 : 55) {
        BlockConfig config;
        config.id = "torture";
        config.path = files_[0].path();
        config.cache_type = CacheType::kWriteback;
        if (seed % 3 == 0) config.rate_limiter.ops = TokenBucketConfig{50, 0, 1};
        auto created = Block::create(
            *loop_, config, [&](Loop&, BlockIoListener& listener, unsigned) -> Result<std::unique_ptr<BlockIo>> {
                auto io = std::make_unique<FakeBlockIo>(listener, seed, faults);
                io_ = io.get();
                return io;
            });
        REQUIRE(created.has_value());
        block_ = *std::move(created);
        io_->on_flush = [this] { check_flush(); };
        activate();
    }

    void run(unsigned steps) {
        for (unsigned i = 0; i < steps; ++i) {
            const uint32_t dice = pick(100);
            if (dice < sends_)
                send();
            else if (dice < 90)
                work();
            else if (dice < 93)
                pause();
            else if (dice < 96)
                reset();
            else if (dice < 98)
                replace();
            reap();
        }
        finish();
    }

    unsigned drains = 0;

private:
    struct Sent {
        uint32_t type;
        unsigned block;
        uint8_t fill;
        uint64_t sequence;
        uint64_t data, status;
        bool either_file = false;  // the file was exchanged meanwhile
    };

    uint32_t pick(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }

    void activate() {
        driver_.restart();
        queues_[0] = *Queue::create(memory_, driver_.layout(), kRing, 256);
        REQUIRE(block_->activate({memory_, kRing | block_->features(), queues_, *this}).has_value());
    }

    void send() {
        if (sent_.size() >= most_) return;
        if (sent_.empty()) driver_.recycle();
        while (sent_.contains(driver_.next_descriptor())) (void)driver_.take_descriptor();
        static constexpr uint32_t kTypes[] = {VIRTIO_BLK_T_IN,          VIRTIO_BLK_T_IN,    VIRTIO_BLK_T_OUT,
                                              VIRTIO_BLK_T_OUT,         VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_DISCARD,
                                              VIRTIO_BLK_T_WRITE_ZEROES};
        Sent request{kTypes[pick(7)], pick(blocks_), static_cast<uint8_t>(1 + pick(255)), next_sequence_++, 0, 0};
        if (request.type == VIRTIO_BLK_T_FLUSH) {
            if (flush_) return;
            flush_ = request.sequence;
        } else if (!busy_.insert(request.block).second) {
            return;  // one request at a time for each block, so that its content is certain
        }
        const virtio_blk_outhdr header{request.type, 0, request.block * kSectorsPerBlock};
        auto chain = driver_.chain().indirect().readable(&header, sizeof header);
        if (request.type == VIRTIO_BLK_T_OUT) {
            const unsigned cut = 1 + pick(kBlockSize - 1);
            const std::string content(kBlockSize, static_cast<char>(request.fill));
            chain.readable(content.substr(0, cut)).readable(content.substr(cut));
        } else if (request.type == VIRTIO_BLK_T_IN) {
            chain.writable(kBlockSize);
            request.data = chain.address(1);
        } else if (request.type != VIRTIO_BLK_T_FLUSH) {
            const virtio_blk_discard_write_zeroes range{request.block * kSectorsPerBlock, kSectorsPerBlock,
                                                        request.type == VIRTIO_BLK_T_WRITE_ZEROES ? pick(2) : 0};
            chain.readable(&range, sizeof range);
        }
        chain.writable(1);
        request.status = chain.last_address();
        const uint16_t head = chain.submit();
        REQUIRE(sent_.emplace(head, request).second);
        if (pick(3)) block_->on_kick(0);
    }

    void work() {
        REQUIRE(loop_->turn(0).has_value());
        io_->step(1 + pick(6));
    }

    void reap() {
        while (const auto used = driver_.used()) {
            const auto at = sent_.find(used->head);
            REQUIRE(at != sent_.end());  // answered once, and only what was asked
            answer(at->second, used->written);
            if (at->second.type == VIRTIO_BLK_T_FLUSH)
                flush_.reset();
            else
                busy_.erase(at->second.block);
            sent_.erase(at);
        }
    }

    void answer(const Sent& request, uint32_t written) {
        const auto status = static_cast<uint8_t>(driver_.bytes(request.status, 1)[0]);
        REQUIRE((status == VIRTIO_BLK_S_OK || status == VIRTIO_BLK_S_IOERR));
        auto& known = content_[block_->config().path];
        if (request.either_file) {
            if (request.type != VIRTIO_BLK_T_IN && request.type != VIRTIO_BLK_T_FLUSH)
                for (const TempFile& file : files_) content_[file.path()][request.block] = -1;
            return;
        }
        if (status != VIRTIO_BLK_S_OK) {
            if (request.type != VIRTIO_BLK_T_IN && request.type != VIRTIO_BLK_T_FLUSH) known[request.block] = -1;
            return;
        }
        switch (request.type) {
            case VIRTIO_BLK_T_OUT:
                known[request.block] = request.fill;
                break;
            case VIRTIO_BLK_T_WRITE_ZEROES:
                known[request.block] = 0;
                break;
            case VIRTIO_BLK_T_DISCARD:
                known[request.block] = -1;
                break;
            case VIRTIO_BLK_T_IN: {
                REQUIRE(written == kBlockSize + 1);
                const int expected = known.contains(request.block) ? known[request.block] : 0;
                if (expected >= 0)
                    REQUIRE(driver_.bytes(request.data, kBlockSize) ==
                            std::string(kBlockSize, static_cast<char>(expected)));
                break;
            }
            default:
                break;
        }
    }

    // At the moment a flush takes effect, no write that the driver sent before it may still be on its way.
    void check_flush() {
        if (!flush_) return;
        for (const auto& [head, request] : sent_) {
            if (request.sequence >= *flush_ || request.type != VIRTIO_BLK_T_OUT) continue;
            for (const BlockTransfer* transfer : io_->started())
                if (transfer->kind == BlockTransfer::Kind::kWrite && transfer->offset / kBlockSize == request.block)
                    FAIL("a flush overtook a write");
        }
    }

    void drain(const bool& done) {
        while (!done) {
            io_->step(1 + pick(4));
            REQUIRE(loop_->turn(0).has_value());
        }
        REQUIRE(io_->in_flight() == 0);
        ++drains;
    }

    void pause() {
        bool paused = false;
        block_->pause([&] { paused = true; });
        drain(paused);
        block_->on_kick(0);
        REQUIRE(io_->in_flight() == 0);
        block_->resume();
    }

    void reset() {
        bool drained = false;
        reap();
        block_->reset([&] { drained = true; });
        drain(drained);
        // What was under way may have been done or not.
        for (const auto& [head, request] : sent_)
            if (request.type != VIRTIO_BLK_T_IN && request.type != VIRTIO_BLK_T_FLUSH)
                for (const TempFile& file : files_) content_[file.path()][request.block] = -1;
        sent_.clear();
        busy_.clear();
        flush_.reset();
        activate();
    }

    void replace() {
        // Half of the time with a full queue under way, of which some go to the one file and some to the other.
        while (!sent_.empty() && replaces_ % 2 == 0) settle_one();
        ++replaces_;
        for (auto& [head, request] : sent_) request.either_file = true;
        bool done = false;
        const auto& next = files_[pick(2)].path();
        REQUIRE(block_
                    ->replace_file(next,
                                   [&](Result<void> result) {
                                       REQUIRE(io_->in_flight() == 0);
                                       done = result.has_value();
                                   })
                    .has_value());
        while (!done) work();
        ++drains;
        REQUIRE(block_->config().path == next);
    }

    void settle_one() {
        block_->on_kick(0);
        io_->step(4);
        REQUIRE(loop_->turn(0).has_value());
        reap();
    }

    void finish() {
        while (!sent_.empty()) settle_one();
        REQUIRE(io_->in_flight() == 0);
        reset();
    }

    void signal_used() override {}
    void change_config(const std::function<void()>& change) override { change(); }
    void signal_needs_reset(const char* reason) override { FAIL(reason); }

    std::mt19937 random_;
    const unsigned blocks_;
    const size_t most_;
    const uint32_t sends_;  // of 100 steps
    unsigned replaces_ = 0;
    TempFile files_[2] = {TempFile(uint64_t{kMostBlocks * kBlockSize}), TempFile(uint64_t{kMostBlocks * kBlockSize})};
    std::unique_ptr<Loop> loop_ = *Loop::create();
    GuestMemory memory_ = test::make_memory();
    FakeDriver driver_{memory_, 256};
    std::array<Queue, 1> queues_;
    FakeBlockIo* io_ = nullptr;
    std::unique_ptr<Block> block_;
    uint64_t next_sequence_ = 0;
    std::optional<uint64_t> flush_;
    std::set<unsigned> busy_;
    std::map<uint16_t, Sent> sent_;
    std::map<std::string, std::map<unsigned, int>> content_;  // of each file's blocks; -1: not certain
};

}  // namespace

TEST_CASE("block: nothing is lost, repeated or reordered across a flush, whatever fails") {
    const char* given = getenv("WISP_TEST_SEED");
    const uint32_t seed = given ? static_cast<uint32_t>(strtoul(given, nullptr, 0)) : std::random_device{}();
    std::printf("block torture: WISP_TEST_SEED=%u\n", seed);
    unsigned drains = 0;
    for (uint32_t i = 0; drains < 10'000; ++i) {
        INFO("seed " << seed << " + " << i);
        const FakeBlockIo::Faults none{}, some{.eio = 3, .enospc = 3, .eagain = 10, .cut_short = 20, .unsupported = 20};
        Torture torture(seed + i, i % 4 == 0 ? none : some,
                        i % 3 == 2 ? Torture::Depth::kDeep : Torture::Depth::kShallow);
        torture.run(4000);
        drains += torture.drains;
    }
}
