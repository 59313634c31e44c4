// SPDX-License-Identifier: Apache-2.0
#include "base/fd.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"

namespace wisp {

void OwnedFd::reset(int fd) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
}

Result<OwnedFd> open_file(const std::string& path, int flags, unsigned mode) {
    int fd;
    do {
        fd = open(path.c_str(), flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) return fail_errno("cannot open %s", path.c_str());
    return OwnedFd(fd);
}

Result<OwnedFd> open_line_file(const std::string& path) {
    // Read-write: the descriptor itself is the reader that keeps a FIFO open.
    OwnedFd file(open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0644));
    if (!file.valid()) return fail("%s", os_error(errno).c_str());
    return file;
}

OwnedFd reopen_nonblocking(int fd) {
    struct stat status{};
    if (fstat(fd, &status) < 0 || !(S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode))) return OwnedFd();
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return OwnedFd(open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

Result<OwnedFd> create_eventfd() {
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) return fail_errno("cannot create an eventfd");
    return OwnedFd(fd);
}

void signal_eventfd(int fd) {
    const uint64_t one = 1;
    ssize_t written;
    do {
        written = write(fd, &one, sizeof one);
    } while (written < 0 && errno == EINTR);
    CHECK(written == sizeof one || errno == EAGAIN);
}

uint64_t drain_eventfd(int fd) {
    uint64_t count = 0;
    ssize_t got;
    do {
        got = read(fd, &count, sizeof count);
    } while (got < 0 && errno == EINTR);
    return got == sizeof count ? count : 0;
}

Result<uint64_t> file_size(int fd, const std::string& path) {
    struct stat status{};
    if (fstat(fd, &status) < 0) return fail_errno("cannot stat %s", path.c_str());
    if (S_ISREG(status.st_mode)) return static_cast<uint64_t>(status.st_size);
    if (S_ISBLK(status.st_mode)) {
        uint64_t bytes = 0;
        if (ioctl(fd, BLKGETSIZE64, &bytes) < 0)
            return fail_errno("cannot read the size of block device %s", path.c_str());
        return bytes;
    }
    return fail("%s is neither a regular file nor a block device", path.c_str());
}

Result<size_t> read_at(int fd, void* buffer, size_t size, uint64_t offset, const std::string& path) {
    size_t done = 0;
    while (done < size) {
        const ssize_t got =
            pread(fd, static_cast<char*>(buffer) + done, size - done, static_cast<off_t>(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno("cannot read %s", path.c_str());
        if (got == 0) break;
        done += static_cast<size_t>(got);
    }
    return done;
}

Result<std::string> read_file(const std::string& path, size_t limit) {
    const OwnedFd fd = TRY(open_file(path, O_RDONLY));
    std::string text;
    char block[4096];
    for (;;) {
        const ssize_t got = read(fd.get(), block, sizeof block);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno("cannot read %s", path.c_str());
        if (got == 0) return text;
        text.append(block, static_cast<size_t>(got));
        if (text.size() > limit) return fail("%s is longer than %zu bytes", path.c_str(), limit);
    }
}

Result<void> write_all(int fd, const void* data, size_t size, const std::string& path) {
    const char* rest = static_cast<const char*>(data);
    while (size > 0) {
        const ssize_t written = write(fd, rest, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return fail_errno("cannot write %s", path.c_str());
        rest += written;
        size -= static_cast<size_t>(written);
    }
    return {};
}

}  // namespace wisp
