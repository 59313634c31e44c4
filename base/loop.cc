// SPDX-License-Identifier: Apache-2.0
#include "base/loop.h"

#include <sched.h>
#include <sys/epoll.h>
#include <time.h>

#include <algorithm>

#include "base/poller.h"

namespace wisp {

namespace {

// Busy-polling. As a guest answers within some tens of microseconds or not for long, more than that is not worth its
// CPU.
constexpr uint64_t kDefaultSpin_ns = 50'000;
constexpr uint64_t kLongestSpin_ns =
    1'000'000;  // of one turn, while there is work all the time: timers want their turn
constexpr int kLooksPerClock = 8;

bool may_spin() {
    cpu_set_t cpus;
    return sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 1;
}

}  // namespace

uint64_t monotonic_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void Watch::reset() {
    if (loop_) std::exchange(loop_, nullptr)->unwatch(slot_);
}

void Timer::arm(uint64_t delay_ns) {
    uint64_t deadline_ns;
    if (__builtin_add_overflow(monotonic_ns(), delay_ns, &deadline_ns)) deadline_ns = UINT64_MAX;
    loop_.arm(*this, deadline_ns);
}

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
    if (loop->uses_io_uring() && may_spin()) loop->set_busy_poll_ns(kDefaultSpin_ns);
    loop->wake_ = TRY(create_eventfd());
    loop->wake_watch_ = TRY(loop->watch(loop->wake_.get(), EPOLLIN, loop->on_wake_));
    return loop;
}

Loop::~Loop() = default;

Result<Watch> Loop::watch(int fd, uint32_t events, Watcher& watcher) {
    return Watch(this, TRY(poller_->add(fd, events, watcher)));
}

void Loop::unwatch(unsigned slot) {
    poller_->remove(slot);
}

void Loop::close_after_exit(int fd) {
    poller_->close_after_exit(fd);
}

Doorbell::Doorbell(Loop& loop, std::function<void()> on_ring) : loop_(loop), on_ring_(std::move(on_ring)) {
    loop_.doorbells_.push_back(this);
}

Doorbell::~Doorbell() {
    std::erase(loop_.doorbells_, this);
}

void Doorbell::ring() {
    if (!rung_.exchange(true, std::memory_order_acq_rel)) loop_.wake();
}

void Loop::wake() {
    if (!woken_.exchange(true, std::memory_order_acq_rel)) signal_eventfd(wake_.get());
}

void Loop::stop() {
    stopped_.store(true, std::memory_order_release);
    wake();
}

// The flag is cleared first: a ring that comes from here on signals the eventfd again.
void Loop::answer_doorbells(uint32_t) {
    woken_.exchange(false, std::memory_order_acq_rel);
    // By index: an answer may add or remove a doorbell. One that is skipped because of that has its turn next time.
    for (size_t i = 0; i < doorbells_.size(); ++i) {
        Doorbell& doorbell = *doorbells_[i];
        if (!doorbell.rung_.exchange(false, std::memory_order_acq_rel)) continue;
        const size_t before = doorbells_.size();
        doorbell.on_ring_();
        if (doorbells_.size() < before) wake();
    }
}

bool TurnBudget::left() const {
    return bytes_left_ > 0 && monotonic_ns() < end_ns_;
}

void Loop::start_turn(uint64_t now_ns) {
    ++turn_number_;
    turn_start_ns_ = now_ns;
    budget_.start(now_ns);
}

// Outside of a turn no clock runs: calls that do not come from the loop (tests) are bounded by bytes alone.
void Loop::end_turn(uint64_t now_ns) {
    budget_ = TurnBudget();
    const uint64_t took_ns = now_ns - turn_start_ns_;
    if (took_ns > longest_turn_ns()) longest_turn_ns_.store(took_ns, std::memory_order_relaxed);
}

Result<void> Loop::run() {
    while (!stopped_.load(std::memory_order_acquire)) TRY(turn(-1));
    return {};
}

Result<void> Loop::turn(int64_t timeout_ns) {
    const int64_t longest_ns = nearest_timer_ns(timeout_ns);
    if (longest_ns == 0 || spin(longest_ns) || arm_sources())
        TRY(poller_->wait(0));
    else
        TRY(sleep(nearest_timer_ns(timeout_ns)));  // a source may have armed one meanwhile
    start_turn(monotonic_ns());
    poller_->dispatch();
    poll_sources();
    run_timers();
    end_turn(monotonic_ns());
    return {};
}

Polling Loop::poll(PollSource& source) {
    sources_.push_back(&source);
    return Polling(this, &source);
}

void Polling::reset() {
    if (loop_) std::erase(std::exchange(loop_, nullptr)->sources_, source_);
}

bool Loop::poll_sources() {
    bool any = false;
    // By index: a source may leave while it is polled.
    for (size_t i = 0; i < sources_.size(); ++i) any |= sources_[i]->poll();
    return any;
}

bool Loop::arm_sources() {
    bool any = false;
    for (PollSource* source : sources_) any |= source->arm();
    return any;
}

// Looks at the sources for as long as that has paid lately. True if there is something to do now.
bool Loop::spin(int64_t timeout_ns) {
    spin_ = &spins_[std::exchange(answer_expected_, false)];
    if (spin_->length_ns() == 0 || sources_.empty()) return false;
    uint64_t now_ns = monotonic_ns();
    const uint64_t latest_ns = now_ns + kLongestSpin_ns;
    idle_since_ns_ = now_ns;
    start_turn(now_ns);
    if (timeout_ns >= 0 && static_cast<uint64_t>(timeout_ns) < spin_->length_ns())
        return false;     // a timer is due before that
    bool worked = false;  // since the clock was read
    for (;;) {
        for (int i = 0; i < kLooksPerClock; ++i) {
            if (poller_->pending()) {
                spin_->found_after(now_ns - idle_since_ns_);
                return true;
            }
            if (poll_sources()) {
                if (!worked) spin_->found_after(now_ns - idle_since_ns_);
                worked = true;
                break;  // each source had its turn: the next look is a new one
            }
            __builtin_ia32_pause();
        }
        now_ns = monotonic_ns();
        end_turn(now_ns);
        start_turn(now_ns);
        if (now_ns >= latest_ns) return true;
        if (std::exchange(worked, false)) {
            spin_ = &spins_[std::exchange(answer_expected_, false)];
            idle_since_ns_ = now_ns;
        }
        if (now_ns - idle_since_ns_ >= spin_->length_ns()) {
            spin_->found_nothing();
            return false;
        }
    }
}

// Sleeps, and learns from how long there was nothing to do whether a spin would have spared it.
Result<void> Loop::sleep(int64_t timeout_ns) {
    if (most_spin_ns_ == 0 || sources_.empty()) return poller_->wait(timeout_ns);
    if (spin_->length_ns() == 0) idle_since_ns_ = monotonic_ns();
    TRY(poller_->wait(timeout_ns));
    spin_->slept(monotonic_ns() - idle_since_ns_, most_spin_ns_);
    return {};
}

int64_t Loop::nearest_timer_ns(int64_t timeout_ns) const {
    if (timers_.empty()) return timeout_ns;
    const uint64_t now = monotonic_ns();
    const uint64_t deadline = timers_.front()->deadline_ns_;
    const uint64_t left_ns = deadline > now ? deadline - now : 0;
    const auto left = static_cast<int64_t>(std::min<uint64_t>(left_ns, INT64_MAX));
    return timeout_ns < 0 ? left : std::min(left, timeout_ns);
}

void Loop::arm(Timer& timer, uint64_t deadline_ns) {
    timer.cancel();
    timer.deadline_ns_ = deadline_ns;
    timer.armed_in_pass_ = timer_pass_;
    const auto later = std::upper_bound(timers_.begin(), timers_.end(), &timer, [](const Timer* a, const Timer* b) {
        return a->deadline_ns_ < b->deadline_ns_;
    });
    timers_.insert(later, &timer);
}

void Loop::disarm(Timer& timer) {
    std::erase(timers_, &timer);
    timer.deadline_ns_ = 0;
}

// A timer that is armed in this pass, by a callback of it, waits for the next one: a callback that arms its timer with
// 0 would keep the loop here for ever.
void Loop::run_timers() {
    if (timers_.empty()) return;
    ++timer_pass_;
    const uint64_t now = monotonic_ns();
    for (;;) {
        const auto next =
            std::ranges::find_if(timers_, [&](const Timer* timer) { return timer->armed_in_pass_ != timer_pass_; });
        if (next == timers_.end() || (*next)->deadline_ns_ > now) return;
        Timer& due = **next;
        disarm(due);
        due.on_expire_();
    }
}

}  // namespace wisp
