// SPDX-License-Identifier: Apache-2.0
// vsock-connect: copies standard input to a port of the host, and that port's data to standard output, each until its
// end.

#include <poll.h>

#include "agent.h"

namespace {

bool write_whole(int fd, const char* bytes, size_t size) {
    while (size > 0) {
        const long put = sys::write(fd, bytes, size);
        if (put == -EINTR) continue;
        if (put <= 0) return false;
        bytes += put;
        size -= static_cast<size_t>(put);
    }
    return true;
}

}  // namespace

// One process for each way: neither waits for the other.
int connect_to_host(unsigned port) {
    static char block[kMaxPayload];
    const int host = sys::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC);
    if (const int error = host < 0 ? host : sys::connect(host, vsock_address(VMADDR_CID_HOST, port)); error < 0) {
        say("vsock-connect: cannot connect: ", error_text(error));
        return 1;
    }
    sys::block_signals(sys::signal_bit(SIGPIPE));
    const int sender = sys::fork();
    const int from = sender == 0 ? 0 : host;
    const int to = sender == 0 ? host : 1;
    long got;
    while ((got = sys::read(from, block, sizeof block)) > 0 || got == -EINTR) {
        if (got > 0 && !write_whole(to, block, static_cast<size_t>(got))) break;
    }
    if (sender == 0) {
        sys::shutdown(host, SHUT_WR);
        return 0;
    }
    if (sender > 0) sys::kill(sender, SIGKILL);
    return got < 0 ? 1 : 0;
}
