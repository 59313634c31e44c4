// SPDX-License-Identifier: Apache-2.0
//
// Unix stream sockets, non-blocking and close-on-exec: each system call wrapped once. What comes back from a transfer
// is the number of bytes or a negative errno, never EINTR.
#pragma once

#include <sys/uio.h>

#include <span>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace wisp {

/// Longest path of a Unix socket, in bytes.
size_t max_unix_path();

/// Binds and listens. Errors name the path and the remedy.
Result<OwnedFd> listen_unix(const std::string& path, unsigned backlog);

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
