// SPDX-License-Identifier: Apache-2.0
#include "jailer/descriptors.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace wisp::jailer {

Result<void> close_inherited_descriptors() {
    // By number: the C library's wrapper is younger than the system call on some hosts.
    if (syscall(SYS_close_range, 3u, ~0u, 0u) < 0)
        return fail_errno("cannot close inherited descriptors; the host needs Linux 5.9 or later");

    pollfd streams[3] = {{0, 0, 0}, {1, 0, 0}, {2, 0, 0}};
    if (poll(streams, 3, 0) <= 0) return {};
    for (const pollfd& stream : streams) {
        // The lowest free number is taken, which is this one: those below it have been filled.
        if ((stream.revents & POLLNVAL) && open("/dev/null", O_RDWR) < 0)
            return fail_errno("cannot open /dev/null in place of closed standard stream %d", stream.fd);
    }
    return {};
}

Result<void> replace_standard_streams(int fd) {
    for (int stream = 0; stream <= 2; ++stream)
        if (dup2(fd, stream) < 0) return fail_errno("cannot point standard stream %d at /dev/null", stream);
    return {};
}

}  // namespace wisp::jailer
