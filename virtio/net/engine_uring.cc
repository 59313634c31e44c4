// SPDX-License-Identifier: Apache-2.0
//
// Frames in batches: one system call for up to a ring's worth of them. A tap never waits for anything but the host's
// memory, so with RWF_NOWAIT all are complete when that call returns.
#include <array>
#include <cerrno>

#include "base/check.h"
#include "base/limits.h"
#include "base/ring.h"
#include "virtio/net/engine.h"
#include "virtio/net/uapi.h"

namespace wisp::virtio {

namespace {

// Guest-driven: all that this ring will ever do, and only on the tap.
constexpr uint8_t kOpcodes[] = {IORING_OP_READV, IORING_OP_WRITEV};
constexpr int kFileSlot = 0;
constexpr unsigned kEntries = std::max(limits::kNetSendBatch, limits::kNetReceiveBatch);

class UringFrameIo final : public FrameIo {
public:
    Result<void> create(int tap) {
        TRY(ring_.create({.entries = kEntries, .opcodes = kOpcodes, .fixed_files_only = true, .file_slots = 1}));
        TRY(ring_.set_file(kFileSlot, tap));
        return probe();
    }
    void take(Tap tap) { tap_ = std::move(tap); }

    void send(std::span<FrameTransfer> frames) override { run(IORING_OP_WRITEV, frames); }
    void receive(std::span<FrameTransfer> frames) override { run(IORING_OP_READV, frames); }
    void close() override {
        // A kernel worker closes the ring after this process has ended, so the ring must not hold the tap.
        (void)ring_.set_file(kFileSlot, -1);
        tap_ = {};
    }
    int fd() const override { return tap_.fd(); }
    bool has_uso() const override { return tap_.has_uso(); }
    Result<void> set_offloads(unsigned offloads) override { return tap_.set_offloads(offloads); }

private:
    struct Slot final : Completion {
        void on_completion(int32_t outcome, uint32_t) override { result = outcome; }
        int32_t result = 0;
    };

    // A frame of one byte: the kernel refuses it with EINVAL where it can write to a tap without waiting.
    Result<void> probe() {
        char byte = 0;
        const iovec part{&byte, 1};
        FrameTransfer frame{&part, 1};
        run(IORING_OP_WRITEV, {&frame, 1});
        if (frame.result == -EINVAL) return {};
        return fail("io_uring on a tap answers %ld to what is no frame", static_cast<long>(frame.result));
    }

    void run(uint8_t opcode, std::span<FrameTransfer> frames) {
        CHECK(frames.size() <= kEntries);
        for (size_t i = 0; i < frames.size(); ++i) {
            io_uring_sqe* entry = ring_.prepare(&slots_[i]);
            io_uring_prep_rw(opcode, entry, kFileSlot, frames[i].parts, frames[i].part_count, 0);
            entry->rw_flags = RWF_NOWAIT;
            entry->flags |= IOSQE_FIXED_FILE;
            io_uring_sqe_set_data(entry, static_cast<Completion*>(&slots_[i]));
            slots_[i].result = -EAGAIN;
        }
        CHECK(ring_.submit().has_value());
        // Normally there is nothing to wait for.
        while (ring_.in_flight() > 0)
            if (ring_.reap() == 0) CHECK(ring_.submit_and_wait(-1).has_value());
        for (size_t i = 0; i < frames.size(); ++i) frames[i].result = slots_[i].result;
    }

    Tap tap_;
    std::array<Slot, kEntries> slots_;  // before the ring: it goes first
    Ring ring_;
};

}  // namespace

Result<std::unique_ptr<FrameIo>> create_uring_frame_io(Tap& tap) {
    auto io = std::make_unique<UringFrameIo>();
    TRY(io->create(tap.fd()));
    io->take(std::move(tap));
    return io;
}

}  // namespace wisp::virtio
