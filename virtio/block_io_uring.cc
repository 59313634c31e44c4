// SPDX-License-Identifier: Apache-2.0
#include <sys/epoll.h>

#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "base/ring.h"
#include "virtio/block_io.h"

namespace wisp::virtio {

namespace {

// Guest-driven: all that this ring will ever do, and only on the drive's own file.
constexpr uint8_t kOpcodes[] = {IORING_OP_READ,  IORING_OP_WRITE, IORING_OP_READV,
                                IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE};
constexpr unsigned kFileSlot = 0;

// Where the kernel had no memory for a submission: try again after this.
constexpr uint64_t kRetry_ns = 1'000'000;

class UringBlockIo final : public BlockIo {
public:
    UringBlockIo(Loop& loop, BlockIoListener& listener, unsigned max_in_flight)
        : listener_(listener), operations_(max_in_flight), retry_(loop, [this] { retry(); }) {
        for (Operation& operation : operations_) {
            operation.engine = this;
            operation.next_free = std::exchange(free_, &operation);
        }
    }
    ~UringBlockIo() override {
        closing_ = true;
        while (ring_.valid() && ring_.in_flight() > 0) {
            if (!ring_.submit_and_wait(-1)) break;
            ring_.reap();
        }
    }

    Result<void> create(Loop& loop) {
        TRY(ring_.create({.entries = static_cast<unsigned>(operations_.size()),
                          .opcodes = kOpcodes,
                          .fixed_files_only = true,
                          .file_slots = 1,
                          .wait = Ring::Wait::kByPoll}));
        watch_ = TRY(loop.watch(ring_.fd(), EPOLLIN, on_ring_ready_));
        return {};
    }

    void queue(BlockTransfer& transfer) override {
        CHECK(free_);
        Operation& operation = *free_;
        free_ = operation.next_free;
        operation.transfer = &transfer;
        io_uring_sqe* entry = ring_.prepare(&operation);
        fill(entry, transfer);
        entry->flags |= IOSQE_FIXED_FILE;
        io_uring_sqe_set_data(entry, static_cast<Completion*>(&operation));
        unsubmitted_ = true;
    }

    void submit() override { turn(); }

    Result<void> set_file(int fd) override {
        CHECK(ring_.in_flight() == 0);
        return ring_.set_file(kFileSlot, fd);
    }

private:
    struct Operation final : Completion {
        void on_completion(int32_t result, uint32_t) override { engine->complete(*this, result); }
        UringBlockIo* engine = nullptr;
        BlockTransfer* transfer = nullptr;
        Operation* next_free = nullptr;
    };

    static void fill(io_uring_sqe* entry, const BlockTransfer& transfer) {
        const auto count = static_cast<unsigned>(transfer.slices.size());
        switch (transfer.kind) {
            case BlockTransfer::Kind::kRead:
                if (count == 1)
                    io_uring_prep_read(entry, kFileSlot, transfer.slices[0].host_address(),
                                       static_cast<unsigned>(transfer.length), transfer.offset);
                else
                    io_uring_prep_readv(entry, kFileSlot, as_iovecs(transfer.slices), count, transfer.offset);
                break;
            case BlockTransfer::Kind::kWrite:
                if (count == 1)
                    io_uring_prep_write(entry, kFileSlot, transfer.slices[0].host_address(),
                                        static_cast<unsigned>(transfer.length), transfer.offset);
                else
                    io_uring_prep_writev(entry, kFileSlot, as_iovecs(transfer.slices), count, transfer.offset);
                break;
            case BlockTransfer::Kind::kFlush: io_uring_prep_fsync(entry, kFileSlot, IORING_FSYNC_DATASYNC); break;
            case BlockTransfer::Kind::kDiscard:
            case BlockTransfer::Kind::kWriteZeroes:
            case BlockTransfer::Kind::kWriteZeroesUnmap:
                io_uring_prep_fallocate(entry, kFileSlot, fallocate_mode(transfer.kind), static_cast<off_t>(transfer.offset),
                                        static_cast<off_t>(transfer.length));
                break;
        }
    }

    void complete(Operation& operation, int32_t result) {
        BlockTransfer& transfer = *operation.transfer;
        operation.next_free = std::exchange(free_, &operation);
        if (closing_) return;
        listener_.on_transfer_done(transfer, result);
    }

    void on_ring_ready(uint32_t) { turn(); }
    void retry() {
        unsubmitted_ = true;
        turn();
    }

    // Submits and reaps until neither brings anything new. What the listener adds meanwhile is part of the same turn.
    void turn() {
        if (turning_) return;
        turning_ = true;
        bool progress;
        do {
            if (std::exchange(unsubmitted_, false)) submit_all();
            progress = false;
            while (ring_.reap() > 0) progress = true;
            if (progress) listener_.on_batch_done();
        } while (progress || unsubmitted_);
        turning_ = false;
    }

    void submit_all() {
        // The ring is ours and valid, so a refusal is a fault of ours.
        CHECK(ring_.submit().has_value());
        if (ring_.unsubmitted() > 0) retry_.arm(kRetry_ns);
    }

    BlockIoListener& listener_;
    std::vector<Operation> operations_;
    Operation* free_ = nullptr;
    bool unsubmitted_ = false;
    bool turning_ = false;
    bool closing_ = false;
    Ring ring_;
    Timer retry_;
    MemberWatcher<UringBlockIo, &UringBlockIo::on_ring_ready> on_ring_ready_{*this};
    Watch watch_;
};

}  // namespace

Result<std::unique_ptr<BlockIo>> create_uring_block_io(Loop& loop, BlockIoListener& listener, unsigned max_in_flight) {
    auto engine = std::make_unique<UringBlockIo>(loop, listener, max_in_flight);
    TRY(engine->create(loop));
    return engine;
}

}  // namespace wisp::virtio
