// SPDX-License-Identifier: Apache-2.0
//
// BlockIo: moves a drive's data between its file and guest memory. Two engines: an io_uring of the drive's own, and a
// thread that makes plain system calls. The thread does cached writes for the ring, and everything on hosts that forbid
// io_uring.
//
// No engine makes a call on the loop's thread that may sleep: the loop has other devices to serve while a disk is slow,
// full or frozen.
//
// A transfer belongs to the caller and stays where it is from queue() until its completion. The kernel accesses guest
// memory, so a guest that changes its memory meanwhile harms only itself.
//
// Threads: the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/guest_memory.h"
#include "base/loop.h"
#include "base/result.h"
#include "virtio/block/file.h"

namespace wisp::virtio {

/// One piece of work on the drive's file.
struct BlockTransfer {
    /// kDeviceDiscard: by BLKDISCARD, on block devices that cannot punch holes.
    enum class Kind : uint8_t { kRead, kWrite, kFlush, kDiscard, kDeviceDiscard, kWriteZeroes, kWriteZeroesUnmap };

    Kind kind = Kind::kRead;
    uint64_t offset = 0;  ///< bytes into the file
    uint64_t length = 0;  ///< bytes; of all `slices` for reads and writes
    std::span<GuestSlice> slices;
    BlockFile::Cache file = BlockFile::Cache::kPageCache;  ///< of a direct file: which of its two descriptors
    BlockTransfer* next = nullptr;                         ///< the engine's, while it has the transfer
    int64_t result = 0;                                    ///< the engine's: of a transfer that is complete

    bool has_data() const { return kind == Kind::kRead || kind == Kind::kWrite; }
};

/// Receives completions.
class BlockIoListener {
public:
    /// `result`: bytes transferred (possibly fewer than asked for), 0 for those without data, or a negative errno. May
    /// queue further transfers: they go out before submit() returns, or with the next one.
    virtual void on_transfer_done(BlockTransfer& transfer, int64_t result) = 0;
    /// Follows the last of a batch of completions: the time to publish them to the driver together. May queue and
    /// submit.
    virtual void on_batch_done() = 0;
    /// Of the drive, for messages.
    virtual const char* name() const = 0;

protected:
    ~BlockIoListener() = default;
};

class BlockIo {
public:
    /// Waits until the kernel works on no transfer any more; the listener is not called.
    virtual ~BlockIo() = default;

    /// Starts the thread that the engine wants for speed, if any: may be left out, not called twice, and not after the
    /// system call filter of the loop. Apart from the engine's creation, because a guest can run meanwhile.
    virtual Result<void> start_writer() { return {}; }
    /// Takes a transfer; nothing happens before submit().
    virtual void queue(BlockTransfer& transfer) = 0;
    /// Hands over all queued transfers, in one system call where the host has one for it, and calls the listener for
    /// those that complete at once. Within a call to the listener it does nothing: the outer call submits.
    virtual void submit() = 0;
    /// A look, without a system call, whether poll() would find anything.
    virtual bool pending() = 0;
    /// Looks for completions; without any it makes no system call. True if it called the listener.
    virtual bool poll() = 0;
    /// The loop is about to sleep: a completion must wake it from now on. True if there is one already.
    virtual bool arm() = 0;
    /// Waits for completions and calls the listener for them, at most `timeout_ns`: for an owner whose loop does not
    /// turn any more. May return early.
    virtual void wait(int64_t timeout_ns) = 0;
    /// From now on transfers go to this file, which must stay open; nothing may be queued or in flight.
    virtual Result<void> set_file(const BlockFile& file) = 0;
};

/// Runs first on a new thread: confines it.
using ThreadSetup = std::function<Result<void>()>;

/// An engine on its own restricted ring. start_writer() starts a thread for cached writes where the file system cannot
/// begin them without sleeping. An error: the host forbids io_uring. Never more than `max_in_flight` transfers.
Result<std::unique_ptr<BlockIo>> create_uring_block_io(Loop& loop, BlockIoListener& listener, unsigned max_in_flight,
                                                       const ThreadSetup& set_up);

/// An engine that makes system calls on a thread of its own. `on_done` is called on the loop when there are completions
/// to poll() for, and is poll() itself by default.
Result<std::unique_ptr<BlockIo>> create_thread_block_io(Loop& loop, BlockIoListener& listener,
                                                        const ThreadSetup& set_up,
                                                        std::function<void()> on_done = nullptr);

/// The descriptor that a transfer is for.
inline int file_of(const BlockFile& file, const BlockTransfer& transfer) {
    const bool cached = transfer.file == BlockFile::Cache::kPageCache && file.cached_fd.valid();
    return cached ? file.cached_fd.get() : file.fd.get();
}
/// fallocate(2) mode of a discard or write-zeroes.
int fallocate_mode(BlockTransfer::Kind kind);

/// Transfers in the order they were queued.
class TransferList {
public:
    void push(BlockTransfer& transfer) {
        transfer.next = nullptr;
        (last_ ? last_->next : first_) = &transfer;
        last_ = &transfer;
    }
    BlockTransfer* pop() {
        BlockTransfer* taken = first_;
        if (taken && !(first_ = taken->next)) last_ = nullptr;
        return taken;
    }
    bool empty() const { return !first_; }

private:
    BlockTransfer* first_ = nullptr;
    BlockTransfer* last_ = nullptr;
};

}  // namespace wisp::virtio
