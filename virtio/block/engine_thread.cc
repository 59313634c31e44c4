// SPDX-License-Identifier: Apache-2.0
//
// One thread for the drive does one transfer after the other by plain system calls, any of which may sleep. On hosts
// without io_uring it does all of them, otherwise cached writes: a batch of writes costs one hand-over here, while a
// ring's worker costs one for each.
//
// The loop and the thread share two lists; a mutex guards them. Both lists are bounded by the drive's pool of requests,
// whose transfers they link.
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>

#include "base/check.h"
#include "base/log.h"
#include "base/worker.h"
#include "virtio/block/engine.h"

namespace wisp::virtio {

int fallocate_mode(BlockTransfer::Kind kind) {
    switch (kind) {
        case BlockTransfer::Kind::kDiscard:
        case BlockTransfer::Kind::kWriteZeroesUnmap:
            return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        case BlockTransfer::Kind::kWriteZeroes:
            return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
        default:
            CHECK(false);
    }
    __builtin_unreachable();
}

namespace {

int64_t run_transfer(const BlockFile& file, const BlockTransfer& transfer) {
    const int fd = file_of(file, transfer);
    const auto offset = static_cast<off_t>(transfer.offset);
    const auto count = static_cast<int>(transfer.slices.size());
    int64_t result = -1;
    do {
        switch (transfer.kind) {
            case BlockTransfer::Kind::kRead:
                result = preadv(fd, as_iovecs(transfer.slices), count, offset);
                break;
            case BlockTransfer::Kind::kWrite:
                result = pwritev(fd, as_iovecs(transfer.slices), count, offset);
                break;
            case BlockTransfer::Kind::kFlush:
                result = fdatasync(fd);
                break;
            case BlockTransfer::Kind::kDiscard:
            case BlockTransfer::Kind::kWriteZeroes:
            case BlockTransfer::Kind::kWriteZeroesUnmap:
                result = fallocate(fd, fallocate_mode(transfer.kind), offset, static_cast<off_t>(transfer.length));
                break;
            case BlockTransfer::Kind::kDeviceDiscard: {
                uint64_t range[2] = {transfer.offset, transfer.length};
                result = ioctl(fd, BLKDISCARD, range);
                break;
            }
        }
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : result;
}

class ThreadBlockIo final : public BlockIo {
public:
    ThreadBlockIo(Loop& loop, BlockIoListener& listener, std::function<void()> on_done)
        : listener_(listener), done_bell_(loop, on_done ? std::move(on_done) : [this] { poll(); }) {}

    ~ThreadBlockIo() override {
        {
            const std::lock_guard lock(mutex_);
            while (todo_.pop()) {
            }  // the requests are abandoned; only what the kernel works on has to end
        }
        worker_.reset();
    }

    Result<void> create(const ThreadSetup& set_up) {
        worker_ = TRY(Worker::start("fc_block"));
        if (set_up)
            worker_->run([this, set_up] {
                auto done = set_up();
                if (!done) LOG_ERROR("%s: %s", listener_.name(), done.error().message.c_str());
                usable_.store(done.has_value(), std::memory_order_relaxed);
            });
        return {};
    }

    void queue(BlockTransfer& transfer) override { queued_.push(transfer); }

    void submit() override {
        if (queued_.empty()) return;
        const std::lock_guard lock(mutex_);
        while (BlockTransfer* transfer = queued_.pop()) todo_.push(*transfer);
        if (!std::exchange(working_, true)) worker_->run([this] { work(); });
    }

    bool pending() override { return any_done_.load(std::memory_order_relaxed); }
    bool poll() override {
        if (polling_ || !pending()) return false;
        polling_ = true;
        TransferList done = take_done();
        while (BlockTransfer* transfer = done.pop()) listener_.on_transfer_done(*transfer, transfer->result);
        listener_.on_batch_done();
        polling_ = false;
        submit();
        return true;
    }

    // Pairs with work(): either this sees the completion, or the thread sees that it must ring.
    bool arm() override {
        armed_.store(true, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_seq_cst);
        return pending();
    }

    // The system call filter of the loop knows poll(2) as its only sleep.
    void wait(int64_t timeout_ns) override {
        const uint64_t end_ns = monotonic_ns() + static_cast<uint64_t>(timeout_ns);
        while (!poll() && monotonic_ns() < end_ns) ::poll(nullptr, 0, 1);
    }

    Result<void> set_file(const BlockFile& file) override {
        const std::lock_guard lock(mutex_);
        CHECK(queued_.empty() && todo_.empty() && done_.empty());
        file_ = &file;
        return {};
    }

private:
    // On the worker's thread, until there is nothing left to do.
    void work() {
        std::unique_lock lock(mutex_);
        while (BlockTransfer* transfer = todo_.pop()) {
            const BlockFile& file = *file_;
            lock.unlock();
            transfer->result = usable_.load(std::memory_order_relaxed) ? run_transfer(file, *transfer) : -EIO;
            lock.lock();
            done_.push(*transfer);
            any_done_.store(true, std::memory_order_relaxed);
            std::atomic_thread_fence(std::memory_order_seq_cst);
            if (armed_.load(std::memory_order_relaxed) && armed_.exchange(false, std::memory_order_relaxed))
                done_bell_.ring();
        }
        working_ = false;
    }

    TransferList take_done() {
        const std::lock_guard lock(mutex_);
        any_done_.store(false, std::memory_order_relaxed);
        return std::exchange(done_, {});
    }

    BlockIoListener& listener_;
    TransferList queued_;  // before submit()
    bool polling_ = false;
    Doorbell done_bell_;

    std::mutex mutex_;
    TransferList todo_, done_;
    bool working_ = false;  // the worker has been asked to work, and will look at todo_ again
    const BlockFile* file_ = nullptr;
    std::atomic<bool> any_done_ = false;  // changed under the mutex, read without
    std::atomic<bool> armed_ = false;     // the loop sleeps, and a completion has to wake it
    std::atomic<bool> usable_ = true;     // false: the thread could not be confined, and does nothing

    std::unique_ptr<Worker> worker_;  // last: it ends before what it uses goes
};

}  // namespace

Result<std::unique_ptr<BlockIo>> create_thread_block_io(Loop& loop, BlockIoListener& listener,
                                                        const ThreadSetup& set_up, std::function<void()> on_done) {
    auto engine = std::make_unique<ThreadBlockIo>(loop, listener, std::move(on_done));
    TRY(engine->create(set_up));
    return engine;
}

}  // namespace wisp::virtio
