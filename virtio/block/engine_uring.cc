// SPDX-License-Identifier: Apache-2.0
#include <sys/epoll.h>

#include <vector>

#include "base/check.h"
#include "base/fd.h"
#include "base/ring.h"
#include "virtio/block/engine.h"

namespace wisp::virtio {

namespace {

// Guest-driven: all that this ring will ever do, and only on the drive's own file.
constexpr uint8_t kOpcodes[] = {IORING_OP_READ,   IORING_OP_WRITE, IORING_OP_READV,
                                IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE};
// The drive's file, and for a direct one the same through the page cache.
constexpr int kFileSlot = 0;
constexpr int kCachedFileSlot = 1;

// Where the kernel had no memory for a submission: try again after this.
constexpr uint64_t kRetry_ns = 1'000'000;

// Writes into the page cache are done at once, by a plain system call, as long as they are quick: that is a copy of
// some kilobytes, while io_uring hands each of them to a worker thread on file systems that cannot write without
// blocking. A write that was slow (the host throttles writers, the disk is behind) sends the following ones through the
// ring for a while, longer each time it happens again: the loop has other devices to serve.
class InlineWrites {
public:
    bool take(const BlockFile& file, BlockTransfer& transfer) {
        if (transfer.kind == BlockTransfer::Kind::kDeviceDiscard) {  // no operation of the ring does it
            waiting_.push(transfer);
            return true;
        }
        const bool cached = transfer.file == BlockFile::Cache::kPageCache || !file.cached_fd.valid();
        if (transfer.kind != BlockTransfer::Kind::kWrite || !cached || transfer.length > kLargest) return false;
        if (off_until_ns_ != 0 && monotonic_ns() < off_until_ns_) return false;
        waiting_.push(transfer);
        return true;
    }
    bool empty() const { return waiting_.empty(); }

    /// Does a few; false if there were none.
    bool run(const BlockFile& file, BlockIoListener& listener) {
        if (waiting_.empty()) return false;
        uint64_t before_ns = monotonic_ns();
        for (unsigned i = 0; i < kBatch && !waiting_.empty(); ++i) {
            BlockTransfer& transfer = *waiting_.pop();
            const int64_t result = run_transfer(file, transfer);
            const uint64_t after_ns = monotonic_ns();
            learn(after_ns, after_ns - before_ns);
            before_ns = after_ns;
            listener.on_transfer_done(transfer, result);
        }
        return true;
    }

private:
    static constexpr uint64_t kLargest = 256 << 10;
    static constexpr unsigned kBatch = 8;
    static constexpr uint64_t kSlow_ns = 2'000'000;
    static constexpr uint64_t kFirstPause_ns = 20'000'000;
    static constexpr uint64_t kLongestPause_ns = 1'000'000'000;

    void learn(uint64_t now_ns, uint64_t took_ns) {
        if (took_ns >= kSlow_ns) {
            off_until_ns_ = now_ns + pause_ns_;
            pause_ns_ = pause_ns_ * 2 < kLongestPause_ns ? pause_ns_ * 2 : kLongestPause_ns;
        } else if (off_until_ns_ != 0 && now_ns - off_until_ns_ > pause_ns_) {
            off_until_ns_ = 0;
            pause_ns_ = kFirstPause_ns;
        }
    }

    TransferList waiting_;
    uint64_t off_until_ns_ = 0;
    uint64_t pause_ns_ = kFirstPause_ns;
};

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
        completed_ = TRY(create_eventfd());
        TRY(ring_.create({.entries = static_cast<unsigned>(operations_.size()),
                          .opcodes = kOpcodes,
                          .fixed_files_only = true,
                          .file_slots = 2,
                          .completion_eventfd = completed_.get()}));
        ring_.notify(Ring::Notify::kOff);
        watch_ = TRY(loop.watch(completed_.get(), EPOLLIN, on_completed_));
        return {};
    }

    void queue(BlockTransfer& transfer) override {
        if (inline_writes_.take(*file_, transfer)) return;
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

    // The eventfd is on only while the loop sleeps: most completions are there when submit() returns, or are found by
    // poll().
    bool poll() override {
        if (!ring_.pending()) return false;
        turn();
        return true;
    }
    bool arm() override {
        if (ring_.in_flight() == 0) return false;
        ring_.notify(Ring::Notify::kOn);
        return ring_.pending();
    }

    Result<void> set_file(const BlockFile& file) override {
        CHECK(ring_.in_flight() == 0 && inline_writes_.empty());
        file_ = &file;
        TRY(ring_.set_file(kFileSlot, file.fd.get()));
        return ring_.set_file(kCachedFileSlot, file.cached_fd.get());
    }

private:
    struct Operation final : Completion {
        void on_completion(int32_t result, uint32_t) override { engine->complete(*this, result); }
        UringBlockIo* engine = nullptr;
        BlockTransfer* transfer = nullptr;
        Operation* next_free = nullptr;
    };

    void fill(io_uring_sqe* entry, const BlockTransfer& transfer) const {
        const int slot = file_of(*file_, transfer) == file_->fd.get() ? kFileSlot : kCachedFileSlot;
        const auto count = static_cast<unsigned>(transfer.slices.size());
        const auto length = static_cast<unsigned>(transfer.length);
        switch (transfer.kind) {
            case BlockTransfer::Kind::kRead:
                if (count == 1)
                    io_uring_prep_read(entry, slot, transfer.slices[0].host_address(), length, transfer.offset);
                else
                    io_uring_prep_readv(entry, slot, as_iovecs(transfer.slices), count, transfer.offset);
                break;
            case BlockTransfer::Kind::kWrite:
                if (count == 1)
                    io_uring_prep_write(entry, slot, transfer.slices[0].host_address(), length, transfer.offset);
                else
                    io_uring_prep_writev(entry, slot, as_iovecs(transfer.slices), count, transfer.offset);
                break;
            case BlockTransfer::Kind::kFlush:
                io_uring_prep_fsync(entry, slot, IORING_FSYNC_DATASYNC);
                break;
            case BlockTransfer::Kind::kDiscard:
            case BlockTransfer::Kind::kWriteZeroes:
            case BlockTransfer::Kind::kWriteZeroesUnmap:
                io_uring_prep_fallocate(entry, slot, fallocate_mode(transfer.kind), static_cast<off_t>(transfer.offset),
                                        static_cast<off_t>(transfer.length));
                break;
            case BlockTransfer::Kind::kDeviceDiscard:  // InlineWrites has taken it
                CHECK(false);
        }
    }

    void complete(Operation& operation, int32_t result) {
        BlockTransfer& transfer = *operation.transfer;
        operation.next_free = std::exchange(free_, &operation);
        if (closing_) return;
        listener_.on_transfer_done(transfer, result);
    }

    void on_completed(uint32_t) { turn(); }
    void retry() {
        unsubmitted_ = true;
        turn();
    }

    // Submits and reaps until neither brings anything new. What the listener adds meanwhile is part of the same turn.
    void turn() {
        if (turning_) return;
        turning_ = true;
        ring_.notify(Ring::Notify::kOff);
        bool progress;
        do {
            if (std::exchange(unsubmitted_, false)) submit_all();
            progress = inline_writes_.run(*file_, listener_);
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
    const BlockFile* file_ = nullptr;
    InlineWrites inline_writes_;
    std::vector<Operation> operations_;
    Operation* free_ = nullptr;
    bool unsubmitted_ = false;
    bool turning_ = false;
    bool closing_ = false;
    OwnedFd completed_;
    Ring ring_;
    Timer retry_;
    MemberWatcher<UringBlockIo, &UringBlockIo::on_completed> on_completed_{*this};
    Watch watch_;
};

}  // namespace

Result<std::unique_ptr<BlockIo>> create_uring_block_io(Loop& loop, BlockIoListener& listener, unsigned max_in_flight) {
    auto engine = std::make_unique<UringBlockIo>(loop, listener, max_in_flight);
    TRY(engine->create(loop));
    return engine;
}

}  // namespace wisp::virtio
