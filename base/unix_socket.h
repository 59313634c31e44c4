// SPDX-License-Identifier: Apache-2.0
//
// Unix stream sockets, non-blocking and close-on-exec: each system call wrapped once. What comes back from a transfer
// is the number of bytes or a negative errno, never EINTR.
#pragma once

#include <sys/uio.h>

#include <span>
#include <string>
#include <utility>

#include "base/fd.h"
#include "base/result.h"

namespace wisp {

/// Longest path of a Unix socket, in bytes.
size_t max_unix_path();

/// A socket that listens, and its file, which goes with it.
class UnixListener {
public:
    /// Binds and listens. Errors name the path and the remedy.
    static Result<UnixListener> create(std::string path, unsigned backlog);
    UnixListener(UnixListener&& other) noexcept : fd_(std::move(other.fd_)), path_(std::exchange(other.path_, {})) {}
    UnixListener& operator=(UnixListener&& other) noexcept;
    ~UnixListener() { unlink(); }

    int fd() const { return fd_.get(); }
    const std::string& path() const { return path_; }  ///< empty once the file is gone
    /// Removes the file, once: also for the end of a process that runs no destructors.
    void unlink();

private:
    UnixListener(OwnedFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

    OwnedFd fd_;
    std::string path_;
};

struct UnixSocket {
    OwnedFd fd;
    int error = 0;  ///< errno; EAGAIN from connect_unix(): the listener's backlog is full
};
/// The next connection that waits, or EAGAIN.
UnixSocket accept_unix(int listener);
UnixSocket connect_unix(const std::string& path);

/// Never raises SIGPIPE.
ssize_t send_some(int fd, std::span<const iovec> parts);

struct Received {
    ssize_t size = 0;   ///< 0: the end
    bool more = false;  ///< more may be waiting, although less came than was asked for
};
Received receive_some(int fd, std::span<const iovec> parts);

}  // namespace wisp
