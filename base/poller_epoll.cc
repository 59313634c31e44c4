// SPDX-License-Identifier: Apache-2.0
#include <sys/epoll.h>

#include <array>

#include "base/check.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/poller.h"

namespace wisp {

namespace {

constexpr int kBatch = 64;

class EpollPoller final : public Poller {
public:
    Result<void> create() {
        epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
        if (!epoll_.valid()) return fail_errno("cannot create an epoll instance");
        return {};
    }

    Result<unsigned> add(int fd, uint32_t events, Watcher& watcher) override {
        for (unsigned i = 0; i < slots_.size(); ++i) {
            if (slots_[i].watcher || slots_[i].retired_in == turn_) continue;
            epoll_event event{};
            event.events = events | EPOLLET;
            event.data.u32 = i;
            if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) < 0)
                return fail_errno("cannot watch descriptor %d", fd);
            slots_[i] = {&watcher, fd, 0};
            return i;
        }
        return fail("the event loop already watches %u descriptors", limits::kMaxWatches);
    }

    void remove(unsigned index) override {
        Slot& slot = slots_[index];
        CHECK(slot.watcher);
        epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, slot.fd, nullptr);
        slot = {nullptr, -1, turn_};
    }

    Result<void> wait(int64_t timeout_ns) override {
        ready_count_ = 0;
        timespec timeout{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
        const int count = epoll_pwait2(epoll_.get(), ready_, kBatch, timeout_ns < 0 ? nullptr : &timeout, nullptr);
        if (count < 0 && errno != EINTR) return fail_errno("epoll_pwait2");
        ready_count_ = count;
        return {};
    }

    void dispatch() override {
        ++turn_;
        for (int i = 0; i < ready_count_; ++i) {
            // A watcher that ran earlier in this batch may have removed this one.
            if (Watcher* watcher = slots_[ready_[i].data.u32].watcher) watcher->on_ready(ready_[i].events);
        }
        ready_count_ = 0;
    }

    bool pending() override { return false; }  // only the kernel can tell: a loop on epoll does not busy-poll

private:
    struct Slot {
        Watcher* watcher = nullptr;
        int fd = -1;
        uint64_t retired_in = 0;  // the turn whose batch may still name this slot
    };

    OwnedFd epoll_;
    std::array<Slot, limits::kMaxWatches> slots_{};
    uint64_t turn_ = 1;
    epoll_event ready_[kBatch];
    int ready_count_ = 0;
};

}  // namespace

Result<std::unique_ptr<Poller>> create_epoll_poller() {
    auto poller = std::make_unique<EpollPoller>();
    TRY(poller->create());
    return poller;
}

}  // namespace wisp
