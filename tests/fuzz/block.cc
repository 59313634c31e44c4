// SPDX-License-Identifier: Apache-2.0
//
// A whole drive between a script of a guest, whose requests are right and wrong, and an engine whose completions come
// late, short, in any order and with errors. Resets, pauses and replacements of the file come in between; perhaps a
// second thread changes the rings and descriptors meanwhile.
#include "virtio/block/device.h"

#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/device_script.h"
#include "tests/support/fake_block_io.h"

using namespace wisp;
using namespace wisp::virtio;

namespace {

constexpr uint64_t kTables = 0x4000, kHeaders = 0x8000, kData = 0x10000;
constexpr unsigned kTableSize = 0x100, kSectors = 64;

enum Op : uint8_t { kRequest, kAnyChain, kPoke, kKick, kStep, kTurn, kReset, kPause, kReplace, kOps };

std::string file_of(uint64_t sectors) {
    const int fd = memfd_create("drive", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, static_cast<off_t>(sectors * kSectorSize)) == 0);
    return "/proc/self/fd/" + std::to_string(fd);
}

class Script final : public fuzz::DeviceScript {
public:
    Script(const GuestMemory& memory, fuzz::Input input) : DeviceScript(memory, input, 1) {
        static const std::string files[] = {file_of(kSectors), file_of(kSectors / 2), file_of(0)};
        files_ = files;
        BlockConfig config{.id = "d", .path = files[0], .cache_type = CacheType::kWriteback};
        const auto seed = input_.take<uint32_t>();
        drive_ = *Block::create(
            loop(), config, [&](Loop&, BlockIoListener& listener, unsigned) -> Result<std::unique_ptr<BlockIo>> {
                const test::FakeBlockIo::Faults faults{.eio = 3, .enospc = 3, .cut_short = 20, .unsupported = 20};
                auto io = std::make_unique<test::FakeBlockIo>(listener, seed, faults);
                io_ = io.get();
                return io;
            });
        activate(*drive_, kTransport | drive_->features());
        if (seed & 1) start_race();
    }
    ~Script() {
        stop_race();
        drain_reset();
    }

    void run() {
        while (!input_.empty()) step(static_cast<Op>(input_.take<uint8_t>() % kOps));
        kick(*drive_, 0);
        for (unsigned i = 0; racing() && i < kRaceTurns; ++i) {
            if (broken()) {
                drain_reset();
                activate(*drive_, kTransport | drive_->features());
            }
            kick(*drive_, 0);
            io_->step(4);
            turn();
        }
    }

private:
    void step(Op op) {
        switch (op) {
            case kRequest:
                return request();
            case kAnyChain:
                return drivers_[0].submit_any(input_);
            case kPoke:
                return poke();
            case kKick:
                return kick(*drive_, 0);
            case kStep:
                io_->step(input_.take<uint8_t>() % 8 + 1);
                return;
            case kTurn:
                return turn();
            case kReset:
                drain_reset();
                return activate(*drive_, kTransport | (drive_->features() & input_.take<uint32_t>()));
            case kPause:
                return pause();
            case kReplace:
                return replace();
            default:
                return;
        }
    }

    // Header, data and status in an indirect table, with the fields of the input.
    void request() {
        static constexpr uint32_t kTypes[] = {VIRTIO_BLK_T_IN,
                                              VIRTIO_BLK_T_OUT,
                                              VIRTIO_BLK_T_FLUSH,
                                              VIRTIO_BLK_T_GET_ID,
                                              VIRTIO_BLK_T_DISCARD,
                                              VIRTIO_BLK_T_WRITE_ZEROES,
                                              99};
        const unsigned slot = next_++ % fuzz::Driver::kSize;
        const virtio_blk_outhdr header{kTypes[input_.take<uint8_t>() % std::size(kTypes)], 0, input_.take<uint8_t>()};
        const auto shape = input_.take<uint8_t>();
        const uint64_t size = shape & 1 ? input_.take<uint16_t>() : (shape >> 4) * kSectorSize;
        const uint64_t data = kData + input_.take<uint16_t>();
        const virtio_blk_discard_write_zeroes range{input_.take<uint8_t>(), input_.take<uint8_t>(), shape & 2u};
        memcpy(host_ + kHeaders + slot * sizeof header, &header, sizeof header);
        if (header.type == VIRTIO_BLK_T_DISCARD || header.type == VIRTIO_BLK_T_WRITE_ZEROES)
            memcpy(host_ + data, &range, sizeof range);
        const bool writes = header.type == VIRTIO_BLK_T_IN || header.type == VIRTIO_BLK_T_GET_ID;
        const uint64_t table = kTables + slot * kTableSize;
        const auto length = static_cast<uint32_t>(shape & 4 ? sizeof range : size);
        drivers_[0].set(table, 0, {kHeaders + slot * sizeof header, sizeof header, 1, 1});
        drivers_[0].set(table, 1, {data, length, static_cast<uint16_t>(writes ? 3 : 1), 2});
        drivers_[0].set(table, 2, {kData - 32 + slot, 1, 2, 0});
        drivers_[0].set(ring(0), slot, {table, 3 * 16, 4, 0});
        drivers_[0].make_available(static_cast<uint16_t>(slot));
    }

    void finish_until(const bool& done) {
        while (!done) {
            io_->step(4);
            turn();
        }
        CHECK(io_->in_flight() == 0);
    }

    void drain_reset() {
        bool drained = false;
        drive_->reset([&] { drained = true; });
        finish_until(drained);
    }

    void pause() {
        bool paused = false;
        drive_->pause([&] { paused = true; });
        finish_until(paused);
        kick(*drive_, 0);
        CHECK(io_->in_flight() == 0);
        drive_->resume();
    }

    void replace() {
        bool done = false;
        CHECK(drive_->replace_file(files_[input_.take<uint8_t>() % 3], [&](Result<void>) { done = true; }).has_value());
        while (!done) {
            io_->step(4);
            turn();
        }
    }

    std::span<const std::string> files_;
    std::unique_ptr<Block> drive_;
    test::FakeBlockIo* io_ = nullptr;
    unsigned next_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    return fuzz::DeviceScript::run<Script>(data, size);
}
