// SPDX-License-Identifier: Apache-2.0
//
// KernelLease: a read lease (fcntl F_SETLEASE) on a kernel image that is mapped into guest memory. While it is held, a
// process that opens the file for writing, or truncates it, waits in the kernel, and the lease's thread gets a signal.
// The monitor then makes its own copy (unshare_kernel) and releases the lease. The wait is bounded by
// /proc/sys/fs/lease-break-time (45 s): after that the writer goes ahead.
//
// Replacing the file by rename or unlink breaks no lease and needs none: the old file stays as long as it is mapped.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>

#include "base/result.h"

namespace wisp::boot {

class KernelLease {
public:
    KernelLease() = default;
    KernelLease(KernelLease&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    KernelLease& operator=(KernelLease&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    KernelLease(const KernelLease&) = delete;
    KernelLease& operator=(const KernelLease&) = delete;
    ~KernelLease() { release(); }

    /// Takes the lease on `fd`, open for reading only and staying open as long as the lease is held (not owned).
    /// `signal_number` is sent to thread `thread` (a kernel thread id) when someone wants to write; it must be blocked
    /// or handled there already. `path` is for messages.
    ///
    /// Fails, with nothing held, where the file is open for writing somewhere, belongs to another user (and
    /// CAP_LEASE is missing), or lies on a file system without leases: the answer is then to copy the kernel.
    static Result<KernelLease> take(int fd, int signal_number, pid_t thread, const std::string& path);

    bool held() const { return fd_ >= 0; }
    /// True where someone waits to write: the answer is unshare_kernel(), then release().
    bool is_breaking() const;
    /// Lets a waiting writer go ahead. Does nothing where no lease is held.
    void release();

private:
    explicit KernelLease(int fd) : fd_(fd) {}
    int fd_ = -1;
};

}  // namespace wisp::boot
