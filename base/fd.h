// SPDX-License-Identifier: Apache-2.0
//
// OwnedFd: the owner of one file descriptor. Its destructor closes the descriptor. Functions that only use a descriptor
// take an int. Each system call that creates a descriptor is wrapped here once, always close-on-exec.
//
// Threads: an OwnedFd belongs to the thread that uses it; the functions may be called on any.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/result.h"

namespace wisp {

class OwnedFd {
public:
    OwnedFd() = default;
    explicit OwnedFd(int fd) : fd_(fd) {}
    OwnedFd(OwnedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    OwnedFd& operator=(OwnedFd&& other) noexcept {
        if (this != &other) reset(std::exchange(other.fd_, -1));
        return *this;
    }
    OwnedFd(const OwnedFd&) = delete;
    OwnedFd& operator=(const OwnedFd&) = delete;
    ~OwnedFd() { reset(); }

    int get() const { return fd_; }
    bool valid() const { return fd_ >= 0; }
    [[nodiscard]] int release() { return std::exchange(fd_, -1); }
    void reset(int fd = -1);

private:
    int fd_ = -1;
};

/// open(2) with O_CLOEXEC added. The error names the path.
Result<OwnedFd> open_file(const std::string& path, int flags, unsigned mode = 0);

/// Opens a file or FIFO to append lines to, and creates the file if it is missing. Writes never block. A FIFO opens
/// without a reader and stays open when its reader goes. The error has Firecracker's words.
Result<OwnedFd> open_line_file(const std::string& path);

/// A descriptor of its own for the pipe or terminal that `fd` is open on, whose writes do not block. `fd` itself stays
/// as it is: O_NONBLOCK on it would change it for the programs that share it. None where that is not possible (a
/// socket, a regular file, no /proc, no permission).
OwnedFd reopen_nonblocking(int fd);

/// A non-blocking eventfd(2) whose counter starts at 0.
Result<OwnedFd> create_eventfd();

/// Adds 1 to an eventfd. A counter at its limit stays there: its reader has a wake-up pending already.
void signal_eventfd(int fd);

/// Sets an eventfd's counter to 0. Returns the value before, 0 if it was not signalled.
uint64_t drain_eventfd(int fd);

/// Length in bytes of a regular file or block device.
Result<uint64_t> file_size(int fd, const std::string& path);

/// pread(2) until `size` bytes or end of file. Returns the bytes read.
Result<size_t> read_at(int fd, void* buffer, size_t size, uint64_t offset, const std::string& path);

/// The content of a file of at most `limit` bytes; a longer file is an error.
Result<std::string> read_file(const std::string& path, size_t limit);

/// write(2) until all bytes are written. For files, pipes and sockets that may block.
Result<void> write_all(int fd, const void* data, size_t size, const std::string& path);

}  // namespace wisp
