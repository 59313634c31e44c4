// SPDX-License-Identifier: Apache-2.0
//
// The engine on an io_uring. The kernel does at once what it can do without sleeping, and the rest on its own worker
// threads. So the loop never sleeps in a file system: not while the host freezes it, throttles writers, or waits for a
// disk.
//
// Writes to files need care. Linux before 6.12, and its stable branches before 2024-11, waited for the end of a freeze
// in the submitting thread. And some file systems (ext4, tmpfs) cannot begin a write through the page cache without
// sleeping: the ring would hand each such write to a worker. Both go to a thread of the drive, which takes whole
// batches. Where there is no such thread, because the drive's first file did not need it, they go to the ring's
// workers.
#include <sys/epoll.h>
#include <sys/utsname.h>

#include <cstdio>
#include <vector>

#include "base/check.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/ring.h"
#include "virtio/block/engine.h"

namespace wisp::virtio {

namespace {

// Guest-driven: all that this ring will ever do, and only on the drive's own file.
constexpr uint8_t kOpcodes[] = {IORING_OP_READ,  IORING_OP_WRITE,     IORING_OP_READV,    IORING_OP_WRITEV,
                                IORING_OP_FSYNC, IORING_OP_FALLOCATE, IORING_OP_URING_CMD};
// Before Linux 5.19 a ring cannot even name the last one.
constexpr auto kOldOpcodes = std::span(kOpcodes).first<6>();

// BLOCK_URING_CMD_DISCARD of <linux/blkdev.h>, since Linux 6.12.
constexpr uint32_t kDiscardCommand = 0x1200;

// The drive's file, and for a direct one the same through the page cache.
constexpr int kFileSlot = 0;
constexpr int kCachedFileSlot = 1;

// Whether a write to a frozen file system leaves the submitting thread free: since "io_uring/rw: fix missing NOWAIT
// check for O_DIRECT start write".
bool submits_writes_without_sleeping() {
    utsname host{};
    unsigned major = 0, minor = 0, patch = 0;
    if (uname(&host) < 0 || sscanf(host.release, "%u.%u.%u", &major, &minor, &patch) < 2) return false;
    constexpr struct {
        unsigned major, minor, patch;
    } kFixed[] = {{5, 10, 229}, {5, 15, 171}, {6, 1, 116}, {6, 6, 60}, {6, 11, 7}};
    for (const auto& branch : kFixed)
        if (major == branch.major && minor == branch.minor) return patch >= branch.patch;
    return major > 6 || (major == 6 && minor >= 12);
}

class UringBlockIo final : public BlockIo, private BlockIoListener {
public:
    UringBlockIo(Loop& loop, BlockIoListener& listener, unsigned max_in_flight, const ThreadSetup& set_up)
        : loop_(loop), listener_(listener), set_up_thread_(set_up), operations_(max_in_flight), retry_(loop, [this] {
              retry();
          }) {
        for (Operation& operation : operations_) {
            operation.engine = this;
            operation.next_free = std::exchange(free_, &operation);
        }
    }
    ~UringBlockIo() override {
        closing_ = true;
        bool logged = false;
        while (ring_.valid() && ring_.in_flight() > 0) {
            const auto waited = ring_.submit_and_wait(kPatience_ns);
            if (!waited) break;
            if (ring_.reap() == 0 && !*waited && !std::exchange(logged, true))
                LOG_WARNING("%s: waiting until the host ends %u transfers", listener_.name(), ring_.in_flight());
        }
    }

    Result<void> create() {
        completed_ = TRY(create_eventfd());
        Ring::Options options{.entries = static_cast<unsigned>(operations_.size()),
                              .opcodes = kOpcodes,
                              .flags = IOSQE_ASYNC,
                              .fixed_files_only = true,
                              .file_slots = 2,
                              .completion_eventfd = completed_.get(),
                              .workers = limits::kBlockWorkers};
        if (!ring_.create(options)) {
            options.opcodes = kOldOpcodes;
            TRY(ring_.create(options));
        }
        ring_.notify(Ring::Notify::kOff);
        watch_ = TRY(loop_.watch(completed_.get(), EPOLLIN, on_completed_));
        return {};
    }

    void queue(BlockTransfer& transfer) override {
        if (writer_ && transfer.kind == BlockTransfer::Kind::kWrite) return writer_->queue(transfer);
        CHECK(free_);
        Operation& operation = *free_;
        free_ = operation.next_free;
        operation.transfer = &transfer;
        // The submission queue has room for all operations.
        io_uring_sqe* entry = ring_.prepare(&operation);
        CHECK(entry);
        fill(entry, transfer);
        entry->flags |= IOSQE_FIXED_FILE;
        io_uring_sqe_set_data(entry, static_cast<Completion*>(&operation));
        unsubmitted_ = true;
    }

    void submit() override { turn(); }

    // The eventfd is on only while the loop sleeps: most completions are there when submit() returns, or poll() finds
    // them.
    bool pending() override { return ring_.pending() || (writer_ && writer_->pending()); }
    bool poll() override {
        if (!pending()) return false;
        turn();
        return true;
    }
    bool arm() override {
        const bool any = writer_ && writer_->arm();
        if (ring_.in_flight() == 0) return any;
        ring_.notify(Ring::Notify::kOn);
        return any || ring_.pending();
    }

    void wait(int64_t timeout_ns) override {
        (void)ring_.submit_and_wait(timeout_ns);
        turn();
    }

    Result<void> set_file(const BlockFile& file) override {
        CHECK(ring_.in_flight() == 0);
        file_ = &file;
        TRY(ring_.set_file(kFileSlot, file.fd.get()));
        TRY(ring_.set_file(kCachedFileSlot, file.cached_fd.get()));
        writes_sleep_[kFileSlot] = !file.is_device && !begins_writes(kFileSlot);
        if (file.cached_fd.valid()) writes_sleep_[kCachedFileSlot] = !file.is_device && !begins_writes(kCachedFileSlot);
        return writer_ ? writer_->set_file(file) : Result<void>();
    }

    // Only for a drive through the page cache. A direct one has few cached writes, and its others on an old kernel may
    // sleep on several workers at once.
    Result<void> start_writer() override {
        if (!file_->writable || file_->cached_fd.valid() || !writes_sleep_[kFileSlot]) return {};
        writer_ = TRY(create_thread_block_io(loop_, *this, set_up_thread_, [this] { turn(); }));
        return writer_->set_file(*file_);
    }

private:
    struct Operation final : Completion {
        void on_completion(int32_t result, uint32_t) override { engine->complete(*this, result); }
        UringBlockIo* engine = nullptr;
        BlockTransfer* transfer = nullptr;
        Operation* next_free = nullptr;
    };

    struct Probe final : Completion {
        void on_completion(int32_t outcome, uint32_t) override { result = outcome; }
        int32_t result = -EAGAIN;
    };

    // Whether the file system begins a write without sleeping: a write of no bytes tells.
    bool begins_writes(int slot) {
        if (!safe_kernel_) return false;
        io_uring_sqe* entry = ring_.prepare(&probe_);
        CHECK(entry);
        io_uring_prep_write(entry, slot, nullptr, 0, 0);
        entry->rw_flags = RWF_NOWAIT;
        entry->flags |= IOSQE_FIXED_FILE;
        io_uring_sqe_set_data(entry, static_cast<Completion*>(&probe_));
        while (ring_.in_flight() > 0) {
            if (!ring_.submit_and_wait(-1)) return false;
            ring_.reap();
        }
        return probe_.result == 0;
    }

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
                if (writes_sleep_[slot]) entry->flags |= IOSQE_ASYNC;
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
            case BlockTransfer::Kind::kDeviceDiscard:
                io_uring_prep_rw(IORING_OP_URING_CMD, entry, slot, nullptr, 0, 0);
                entry->addr = transfer.offset;
                entry->addr3 = transfer.length;
                entry->cmd_op = kDiscardCommand;
                break;
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

    // The writer's completions: turn() polls for them.
    void on_transfer_done(BlockTransfer& transfer, int64_t result) override {
        listener_.on_transfer_done(transfer, result);
    }
    void on_batch_done() override {}
    const char* name() const override { return listener_.name(); }

    // Submits and reaps until neither brings anything new. What the listener adds meanwhile is part of the same turn.
    void turn() {
        if (turning_) return;
        turning_ = true;
        ring_.notify(Ring::Notify::kOff);
        bool progress;
        do {
            if (std::exchange(unsubmitted_, false)) submit_all();
            if (writer_) writer_->submit();
            progress = writer_ && writer_->poll();
            while (ring_.reap() > 0) progress = true;
            if (progress) listener_.on_batch_done();
        } while (progress || unsubmitted_);
        turning_ = false;
    }

    void submit_all() {
        // The ring is ours and valid, so a refusal is a fault of ours.
        CHECK(ring_.submit().has_value());
        if (ring_.unsubmitted() == 0) return;
        if (!std::exchange(shortage_logged_, true))
            LOG_WARNING("%s: the host has no memory for transfers: trying again every millisecond", listener_.name());
        retry_.arm(Ring::kShortage_ns);
    }

    static constexpr int64_t kPatience_ns = 1'000'000'000;  // before the log says what is waited for

    Loop& loop_;
    BlockIoListener& listener_;
    const ThreadSetup set_up_thread_;
    const BlockFile* file_ = nullptr;
    std::vector<Operation> operations_;
    Operation* free_ = nullptr;
    bool unsubmitted_ = false;
    bool turning_ = false;
    bool closing_ = false;
    bool shortage_logged_ = false;
    const bool safe_kernel_ = submits_writes_without_sleeping();
    bool writes_sleep_[2] = {true, true};  // in the submitting thread
    Probe probe_;
    OwnedFd completed_;
    Ring ring_;
    Timer retry_;
    MemberWatcher<UringBlockIo, &UringBlockIo::on_completed> on_completed_{*this};
    Watch watch_;
    std::unique_ptr<BlockIo> writer_;  // of cached writes, or null
};

}  // namespace

Result<std::unique_ptr<BlockIo>> create_uring_block_io(Loop& loop, BlockIoListener& listener, unsigned max_in_flight,
                                                       const ThreadSetup& set_up) {
    auto engine = std::make_unique<UringBlockIo>(loop, listener, max_in_flight, set_up);
    TRY(engine->create());
    return engine;
}

}  // namespace wisp::virtio
