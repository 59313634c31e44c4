// SPDX-License-Identifier: Apache-2.0
#include "base/loop.h"

#include <sys/epoll.h>
#include <time.h>

#include <algorithm>

#include "base/poller.h"

namespace wisp {

uint64_t monotonic_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void Watch::reset() {
    if (loop_) std::exchange(loop_, nullptr)->unwatch(slot_);
}

void Timer::arm(uint64_t delay_ns) { loop_.arm(*this, monotonic_ns() + delay_ns); }

void Timer::cancel() {
    if (armed()) loop_.disarm(*this);
}

Result<std::unique_ptr<Loop>> Loop::create(Backend backend) {
    std::unique_ptr<Loop> loop(new Loop);
    if (backend == Backend::kAutomatic) {
        if (auto poller = create_uring_poller())
            loop->poller_ = *std::move(poller);
        else
            loop->fallback_reason_ = poller.error().message;
    } else {
        loop->fallback_reason_ = "epoll was asked for";
    }
    if (!loop->poller_) loop->poller_ = TRY(create_epoll_poller());
    loop->wake_ = TRY(create_eventfd());
    loop->wake_watch_ = TRY(loop->watch(loop->wake_.get(), EPOLLIN, loop->on_wake_));
    return loop;
}

Loop::~Loop() = default;

Result<Watch> Loop::watch(int fd, uint32_t events, Watcher& watcher) {
    return Watch(this, TRY(poller_->add(fd, events, watcher)));
}

void Loop::unwatch(unsigned slot) { poller_->remove(slot); }

void Loop::close_after_exit(int fd) { poller_->close_after_exit(fd); }

void Loop::post(std::move_only_function<void()> work) {
    {
        const std::lock_guard lock(posted_mutex_);
        posted_.push_back(std::move(work));
    }
    signal_eventfd(wake_.get());
}

void Loop::stop() {
    stopped_.store(true, std::memory_order_release);
    signal_eventfd(wake_.get());
}

void Loop::run_posted(uint32_t) {
    std::vector<std::move_only_function<void()>> due;
    {
        const std::lock_guard lock(posted_mutex_);
        due.swap(posted_);
    }
    for (auto& work : due) work();
}

Result<void> Loop::run() {
    while (!stopped_.load(std::memory_order_acquire)) TRY(turn(-1));
    return {};
}

Result<void> Loop::turn(int64_t timeout_ns) {
    ++turn_number_;
    TRY(poller_->wait(nearest_timer_ns(timeout_ns)));
    run_timers();
    return {};
}

int64_t Loop::nearest_timer_ns(int64_t timeout_ns) const {
    if (timers_.empty()) return timeout_ns;
    const uint64_t now = monotonic_ns();
    const uint64_t deadline = timers_.front()->deadline_ns_;
    const auto left = static_cast<int64_t>(deadline > now ? deadline - now : 0);
    return timeout_ns < 0 ? left : std::min(left, timeout_ns);
}

void Loop::arm(Timer& timer, uint64_t deadline_ns) {
    timer.cancel();
    timer.deadline_ns_ = deadline_ns;
    const auto later = std::upper_bound(timers_.begin(), timers_.end(), &timer, [](const Timer* a, const Timer* b) {
        return a->deadline_ns_ < b->deadline_ns_;
    });
    timers_.insert(later, &timer);
}

void Loop::disarm(Timer& timer) {
    std::erase(timers_, &timer);
    timer.deadline_ns_ = 0;
}

void Loop::run_timers() {
    if (timers_.empty()) return;
    const uint64_t now = monotonic_ns();
    while (!timers_.empty() && timers_.front()->deadline_ns_ <= now) {
        Timer& due = *timers_.front();
        disarm(due);
        due.on_expire_();
    }
}

}  // namespace wisp
