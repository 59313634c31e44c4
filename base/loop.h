// SPDX-License-Identifier: Apache-2.0
//
// Loop: one thread's event loop. It tells when descriptors become ready, runs timers, and answers doorbells.
// It waits on an io_uring, with multishot polls, or on epoll where the host forbids io_uring: users see no difference.
//
// Readiness is edge-triggered on both: a Watcher reads or writes until EAGAIN. An eventfd need not be read at all: each
// signal is a new edge.
//
// A turn has a price: each source asks budget() before it goes on, so that no source keeps the others waiting.
//
// Threads: everything belongs to the loop's thread, but for Doorbell::ring() and stop(), which any thread may call.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/limits.h"
#include "base/result.h"
#include "base/spin.h"

namespace wisp {

class Loop;
class Poller;

/// Is called when its descriptor is ready. `events` are EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP.
class Watcher {
public:
    virtual void on_ready(uint32_t events) = 0;

protected:
    ~Watcher() = default;
};

/// A Watcher that calls one member function: `MemberWatcher<Block, &Block::on_kick> kick_{*this};`
template <class Owner, void (Owner::*Method)(uint32_t)>
class MemberWatcher final : public Watcher {
public:
    explicit MemberWatcher(Owner& owner) : owner_(owner) {}
    void on_ready(uint32_t events) override { (owner_.*Method)(events); }

private:
    Owner& owner_;
};

/// One descriptor's registration; ends with this object. The descriptor must stay open until then.
class Watch {
public:
    Watch() = default;
    Watch(Watch&& other) noexcept : loop_(std::exchange(other.loop_, nullptr)), slot_(other.slot_) {}
    Watch& operator=(Watch&& other) noexcept {
        std::swap(loop_, other.loop_);
        std::swap(slot_, other.slot_);
        return *this;
    }
    ~Watch() { reset(); }
    void reset();
    bool active() const { return loop_ != nullptr; }

private:
    friend class Loop;
    Watch(Loop* loop, unsigned slot) : loop_(loop), slot_(slot) {}
    Loop* loop_ = nullptr;
    unsigned slot_ = 0;
};

/// Something that can have work without a descriptor becoming ready: a queue in shared memory. The loop looks at it
/// before it sleeps, and for a while instead of sleeping where that pays. So the other side need not signal until
/// arm() was called: two thread hand-overs less for each piece of work.
class PollSource {
public:
    /// Does what there is to do, without a system call where there is nothing. True if there was anything.
    virtual bool poll() = 0;
    /// The loop is about to sleep: from now on a descriptor must become ready when work comes. True if some came
    /// already.
    virtual bool arm() = 0;

protected:
    ~PollSource() = default;
};

/// One source's registration; ends with this object.
class Polling {
public:
    Polling() = default;
    Polling(Polling&& other) noexcept : loop_(std::exchange(other.loop_, nullptr)), source_(other.source_) {}
    Polling& operator=(Polling&& other) noexcept {
        std::swap(loop_, other.loop_);
        std::swap(source_, other.source_);
        return *this;
    }
    ~Polling() { reset(); }
    void reset();

private:
    friend class Loop;
    Polling(Loop* loop, PollSource* source) : loop_(loop), source_(source) {}
    Loop* loop_ = nullptr;
    PollSource* source_ = nullptr;
};

/// Asks a loop to call a function, from any thread. A doorbell is a flag beside the loop's one eventfd: ringing it
/// allocates nothing, and rings that come before the loop answers are one.
class Doorbell {
public:
    /// Loop's thread. `on_ring` runs on the loop, in the turn after the ring.
    Doorbell(Loop& loop, std::function<void()> on_ring);
    Doorbell(const Doorbell&) = delete;
    Doorbell& operator=(const Doorbell&) = delete;
    /// Loop's thread, when no other thread can ring any more.
    ~Doorbell();

    void ring();

private:
    friend class Loop;
    Loop& loop_;
    const std::function<void()> on_ring_;
    std::atomic<bool> rung_ = false;
};

/// What one turn of a loop may still do. All sources of the loop share it: a source takes what a piece of work costs,
/// and stops where nothing is left. A source that has not begun in this turn may do one batch in any case, so that none
/// starves.
class TurnBudget {
public:
    /// Takes the cost of a piece of work that moved so many bytes.
    void take(uint64_t bytes) { bytes_left_ -= std::min(bytes_left_, bytes + limits::kTurnItemBytes); }
    /// False: leave the rest to the next turn. Reads the clock, so ask once for a batch.
    bool left() const;

private:
    friend class Loop;
    void start(uint64_t now_ns) {
        bytes_left_ = limits::kTurnBytes;
        end_ns_ = now_ns + limits::kTurn_ns;
    }
    uint64_t bytes_left_ = limits::kTurnBytes;
    uint64_t end_ns_ = UINT64_MAX;
};

/// A one-shot timer, owned by its user; disarmed when it goes.
class Timer {
public:
    Timer(Loop& loop, std::function<void()> on_expire) : loop_(loop), on_expire_(std::move(on_expire)) {}
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;
    ~Timer() { cancel(); }

    /// Expires once, `delay_ns` from now; arming again replaces the earlier deadline. A turn of the loop expires each
    /// timer at most once: one that its own callback arms with 0 expires in the next turn. A deadline past the end of
    /// time is never reached.
    void arm(uint64_t delay_ns);
    void cancel();
    bool armed() const { return deadline_ns_ != 0; }

private:
    friend class Loop;
    Loop& loop_;
    std::function<void()> on_expire_;
    uint64_t deadline_ns_ = 0;    // CLOCK_MONOTONIC; 0: not armed
    uint64_t armed_in_pass_ = 0;  // the pass of Loop::run_timers() that arm() ran in or after
};

/// CLOCK_MONOTONIC in nanoseconds.
uint64_t monotonic_ns();

class Loop {
public:
    enum class Backend { kAutomatic, kEpoll };

    /// `fallback_reason()` of the result tells why io_uring is not used, where it is not.
    static Result<std::unique_ptr<Loop>> create(Backend backend = Backend::kAutomatic);
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;
    ~Loop();

    /// Watches a descriptor for `events` (EPOLLIN and so on). The watcher must outlive the Watch.
    Result<Watch> watch(int fd, uint32_t events, Watcher& watcher);

    /// Looks at `source` in every turn. It must outlive the registration.
    Polling poll(PollSource& source);
    /// Longest time to look at sources before sleeping; 0: none. How long it really is follows what has paid lately, so
    /// a loop without work sleeps. Off where there is one CPU only: whom we wait for could not run.
    void set_busy_poll_ns(uint64_t most) {
        most_spin_ns_ = most;
        for (Spin& spin : spins_) spin = {};
    }
    /// Told by a source that has given the other side something to which there may be an answer at once. What has paid
    /// then is learned by itself: after something that went elsewhere, to a program that perhaps needs this CPU,
    /// another length pays.
    void expect_answer() { answer_expected_ = true; }

    /// Takes a reference to a descriptor that the kernel drops in one of its own threads after this process has ended.
    /// For what is slow to close (a VM waits for several grace periods). Does nothing on epoll or when there is no
    /// room.
    void close_after_exit(int fd);

    /// From any thread: run() returns after what it is doing.
    void stop();

    /// Runs until stop(). An error is the host's refusal to let us wait.
    Result<void> run();
    /// One turn: waits at most `timeout_ns` (negative: until something happens) and runs what is due.
    Result<void> turn(int64_t timeout_ns);

    /// Goes up with every turn.
    uint64_t turn_number() const { return turn_number_; }
    /// What this turn may still do.
    TurnBudget& budget() { return budget_; }
    /// The longest time, in nanoseconds, from the end of a wait to the next one. Any thread.
    uint64_t longest_turn_ns() const { return longest_turn_ns_.load(std::memory_order_relaxed); }

    bool uses_io_uring() const { return fallback_reason_.empty(); }
    const std::string& fallback_reason() const { return fallback_reason_; }

private:
    friend class Watch;
    friend class Timer;
    friend class Polling;
    friend class Doorbell;

    Loop() = default;
    void unwatch(unsigned slot);
    void arm(Timer& timer, uint64_t deadline_ns);
    void disarm(Timer& timer);
    int64_t nearest_timer_ns(int64_t timeout_ns) const;
    void run_timers();
    void wake();
    void answer_doorbells(uint32_t events);
    void start_turn(uint64_t now_ns);
    void end_turn(uint64_t now_ns);
    bool poll_sources();
    bool arm_sources();
    bool spin(int64_t timeout_ns);
    Result<void> sleep(int64_t timeout_ns);

    std::unique_ptr<Poller> poller_;
    std::string fallback_reason_;
    std::vector<Timer*> timers_;  // by deadline
    uint64_t timer_pass_ = 0;
    uint64_t turn_number_ = 0;

    std::vector<PollSource*> sources_;
    uint64_t most_spin_ns_ = 0, idle_since_ns_ = 0;
    Spin spins_[2];  // where an answer is expected: [1]
    Spin* spin_ = spins_;
    bool answer_expected_ = false;

    OwnedFd wake_;
    MemberWatcher<Loop, &Loop::answer_doorbells> on_wake_{*this};
    Watch wake_watch_;
    std::vector<Doorbell*> doorbells_;
    std::atomic<bool> woken_ = false;  // wake_ is signalled, and the loop has not seen it
    std::atomic<bool> stopped_ = false;

    TurnBudget budget_;
    uint64_t turn_start_ns_ = 0;
    std::atomic<uint64_t> longest_turn_ns_ = 0;
};

}  // namespace wisp
