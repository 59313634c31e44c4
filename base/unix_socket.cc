// SPDX-License-Identifier: Apache-2.0
#include "base/unix_socket.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

namespace wisp {

namespace {

bool set_path(sockaddr_un& address, const std::string& path) {
    address.sun_family = AF_UNIX;
    if (path.size() > max_unix_path()) return false;
    memcpy(address.sun_path, path.c_str(), path.size() + 1);
    return true;
}

OwnedFd new_socket() {
    return OwnedFd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

template <class Call>
ssize_t without_interruption(Call call) {
    ssize_t result;
    do result = call();
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : result;
}

}  // namespace

size_t max_unix_path() {
    return sizeof sockaddr_un::sun_path - 1;
}

Result<UnixListener> UnixListener::create(std::string path, unsigned backlog) {
    if (path.empty()) return fail("the path of a Unix socket is empty");
    // The kernel would take it for the end, or for a name that is in no file system.
    if (path.find('\0') != std::string::npos) return fail("paths must not contain interior null bytes");
    sockaddr_un address{};
    if (!set_path(address, path))
        return fail("%s: the path of a Unix socket has at most %zu bytes, and this one %zu", path.c_str(),
                    max_unix_path(), path.size());
    OwnedFd fd = new_socket();
    if (!fd.valid()) return fail_errno("cannot create a Unix socket");
    if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) {
        if (errno != EADDRINUSE) return fail_errno("cannot bind to %s", path.c_str());
        return fail_errno("cannot bind to %s, which is there already (remove it if no process uses it)", path.c_str());
    }
    if (listen(fd.get(), static_cast<int>(backlog)) < 0) {
        auto error = fail_errno("cannot listen on %s", path.c_str());
        ::unlink(path.c_str());
        return error;
    }
    return UnixListener(std::move(fd), std::move(path));
}

UnixListener& UnixListener::operator=(UnixListener&& other) noexcept {
    unlink();
    fd_ = std::move(other.fd_);
    path_ = std::exchange(other.path_, {});
    return *this;
}

void UnixListener::unlink() {
    if (!path_.empty()) ::unlink(std::exchange(path_, {}).c_str());
}

UnixSocket accept_unix(int listener) {
    const ssize_t fd =
        without_interruption([&] { return accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); });
    if (fd < 0) return {{}, static_cast<int>(-fd)};
    return {OwnedFd(static_cast<int>(fd))};
}

UnixSocket connect_unix(const std::string& path) {
    sockaddr_un address{};
    if (!set_path(address, path)) return {{}, ENAMETOOLONG};
    OwnedFd fd = new_socket();
    if (!fd.valid()) return {{}, errno};
    const ssize_t connected = without_interruption(
        [&] { return connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address); });
    if (connected < 0) return {{}, static_cast<int>(-connected)};
    return {std::move(fd)};
}

ssize_t send_some(int fd, std::span<const iovec> parts) {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts.data());
    message.msg_iovlen = parts.size();
    return without_interruption([&] { return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT); });
}

Received receive_some(int fd, std::span<const iovec> parts) {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts.data());
    message.msg_iovlen = parts.size();
    const ssize_t size = without_interruption([&] { return recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC); });
    // Data with descriptors, which are dropped, comes by itself: the next may be waiting behind it.
    return {size, (message.msg_flags & MSG_CTRUNC) != 0};
}

}  // namespace wisp
