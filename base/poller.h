// SPDX-License-Identifier: Apache-2.0
//
// Poller: how a Loop waits for descriptors. Two of them: io_uring multishot polls, and epoll for hosts without
// io_uring. Both are edge-triggered. A slot that is removed is reused only when nothing about it can still arrive.
#pragma once

#include <cstdint>
#include <memory>

#include "base/loop.h"
#include "base/result.h"

namespace wisp {

class Poller {
public:
    virtual ~Poller() = default;
    /// Returns the slot that remove() takes.
    virtual Result<unsigned> add(int fd, uint32_t events, Watcher& watcher) = 0;
    virtual void remove(unsigned slot) = 0;
    /// Waits at most `timeout_ns` (negative: for ever) until a descriptor is ready.
    virtual Result<void> wait(int64_t timeout_ns) = 0;
    /// Calls the watchers that the last wait() found ready.
    virtual void dispatch() = 0;
    /// A cheap look whether wait() would have something to tell.
    virtual bool pending() = 0;
    virtual void close_after_exit(int) {}
};

Result<std::unique_ptr<Poller>> create_uring_poller();
Result<std::unique_ptr<Poller>> create_epoll_poller();

}  // namespace wisp
