// SPDX-License-Identifier: Apache-2.0
//
// Ring: an io_uring that is created disabled, restricted to the operations its user needs, and only then enabled:
// seccomp cannot see what is submitted to a ring, so the ring itself has to refuse the rest.
//
// Completions belong to the caller: a Completion lives in the caller's object (or a fixed pool) and must stay where it
// is until it is called. Nothing is allocated for a submission.
//
// Threads: a Ring belongs to the thread that enables it. in_flight() tells what has not come back.
#pragma once

#include <liburing.h>

#include <cerrno>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace wisp {

/// Receives the result of one submission: `result` as of the system call it stands for (negative errno), `flags`
/// IORING_CQE_F_*.
class Completion {
public:
    virtual void on_completion(int32_t result, uint32_t flags) = 0;

protected:
    ~Completion() = default;
};

class Ring {
public:
    struct Options {
        unsigned entries;                  ///< submissions that can wait for one system call
        unsigned completion_entries = 0;   ///< 0: twice `entries`
        std::span<const uint8_t> opcodes;  ///< IORING_OP_* that may be submitted
        uint8_t flags = 0;                 ///< IOSQE_* that a submission may have, beside IOSQE_FIXED_FILE
        bool fixed_files_only = false;     ///< refuse every submission that does not name a registered file
        unsigned file_slots = 0;           ///< size of the registered-file table, filled by set_file()
        /// Signalled at completions while notify() is on, for an owner that does not wait in the ring.
        int completion_eventfd = -1;
        /// Most kernel threads that do what cannot be done without sleeping, of all rings of this thread; 0: the
        /// kernel's choice.
        unsigned workers = 0;
    };

    Ring() = default;
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;
    ~Ring();

    /// Makes and restricts the ring. The calling thread must be the one that submits. The error says what the host
    /// refused: callers fall back to plain system calls (errno ENOSYS or EPERM: the host forbids io_uring).
    Result<void> create(const Options& options);
    bool valid() const { return valid_; }

    /// A cleared submission entry whose completion goes to `completion`; null `completion`: nothing is called. Submits
    /// first when the submission queue is full. Null if the kernel takes nothing at present: try again later.
    io_uring_sqe* prepare(Completion* completion);
    /// Submits all prepared entries in one system call. Where the kernel has no memory for them that is no error: the
    /// rest stays in the queue, see unsubmitted(), and goes with a later call.
    Result<void> submit();
    /// Submits and waits for a completion, at most `timeout_ns` (negative: for ever). True if there may be one. While
    /// the kernel has no memory for what is submitted, it waits for at most kShortage_ns.
    Result<bool> submit_and_wait(int64_t timeout_ns);
    /// A pause between two tries where the kernel lacks memory.
    static constexpr int64_t kShortage_ns = 1'000'000;
    /// Whether a result, as a negative errno, says that the kernel lacks memory or room at present.
    static bool is_shortage(int result) { return result == -EAGAIN || result == -ENOMEM || result == -EBUSY; }
    /// Calls the completions that have come, up to a fixed number; returns how many were called.
    unsigned reap();

    /// Completions that have come and were not called.
    unsigned ready() const { return io_uring_cq_ready(&ring_); }
    /// A look, without a system call, whether reap() would find anything or the kernel has work to finish first.
    bool pending() const {
        return io_uring_cq_ready(&ring_) > 0 ||
               (IO_URING_READ_ONCE(*ring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
    }

    enum class Notify : uint8_t { kOff, kOn };
    /// Switches the completion eventfd, without a system call. After switching it on look at pending() once more.
    void notify(Notify notify);

    /// Puts a descriptor (-1: none) into a slot of the registered-file table.
    Result<void> set_file(unsigned slot, int fd);

    int fd() const { return ring_.ring_fd; }
    unsigned in_flight() const { return in_flight_; }
    /// Prepared entries that the kernel has not taken yet.
    unsigned unsubmitted() const { return io_uring_sq_ready(&ring_); }

private:
    Result<void> restrict(const Options& options);

    io_uring ring_{};
    bool valid_ = false;
    unsigned in_flight_ = 0;
};

}  // namespace wisp
