// SPDX-License-Identifier: Apache-2.0
//
// The control thread while a guest runs: API, signals, timers, log and metrics. It opens nothing.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "vmm/policy/common.h"
#include "vmm/policy/rule.h"

namespace wisp::policy {

inline constexpr Rule kControlRun[] = {
    allow("epoll_pwait2", "control's loop waits here"),
    allow("epoll_ctl", "clients that come and go"),
    allow("read", "the signalfd"),
    allow("close", "connections that end"),
    // Memory.
    allow("mmap", without(2, PROT_EXEC), without(3, MAP_FIXED),
          "the allocator's large blocks; never code, never over what is there"),
    allow("munmap", "the allocator gives large blocks back"),
    allow("mremap", is(3, MREMAP_MAYMOVE), "the allocator makes such a block larger"),
    // The API.
    allow("accept4", "a client comes"),
    allow("recvfrom", "its request"),
    allow("sendto", "the answer"),
    allow("shutdown", "a connection has no more to say"),
    allow("unlink", "the sockets go with the process"),
    // The end.
    allow("rt_sigaction", is(0, SIGTERM), "the process ends as the signal would have ended it: the handler goes first"),
    allow("rt_sigaction", is(0, SIGINT), "the same"),
};

}  // namespace wisp::policy
