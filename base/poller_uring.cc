// SPDX-License-Identifier: Apache-2.0
#include <sys/epoll.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/poller.h"
#include "base/ring.h"

namespace wisp {

namespace {

// All that a loop asks of its ring: seccomp cannot see further.
constexpr uint8_t kOpcodes[] = {IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL};

class UringPoller final : public Poller {
public:
    Result<void> create() {
        return ring_.create({.entries = limits::kLoopRingEntries,
                             .completion_entries = 2 * limits::kMaxWatches,
                             .opcodes = kOpcodes,
                             .file_slots = limits::kMaxDescriptorsClosedAfterExit});
    }

    // A ring is taken down by a kernel worker, and the files registered with it go there too.
    void close_after_exit(int fd) override {
        if (next_file_slot_ == limits::kMaxDescriptorsClosedAfterExit) return;
        if (ring_.set_file(next_file_slot_, fd)) ++next_file_slot_;
    }

    Result<unsigned> add(int fd, uint32_t events, Watcher& watcher) override {
        for (unsigned i = 0; i < slots_.size(); ++i) {
            if (!slots_[i]) slots_[i] = std::make_unique<Slot>(*this);
            Slot& slot = *slots_[i];
            if (slot.state != Slot::State::kFree) continue;
            slot.fd = fd;
            slot.events = events;
            slot.watcher = &watcher;
            slot.arm();
            return i;
        }
        return fail("the event loop already watches %u descriptors", limits::kMaxWatches);
    }

    void remove(unsigned index) override {
        Slot& slot = *slots_[index];
        CHECK(slot.watcher);
        slot.watcher = nullptr;
        if (slot.state != Slot::State::kWatching) {  // the kernel does not know it
            slot.state = Slot::State::kFree;
            return;
        }
        slot.state = Slot::State::kRemoving;
        slot.poll_ended = slot.cancel_ended = false;
        slot.cancel();
        // At once: the caller may close the descriptor next, and its number may be watched anew.
        CHECK(ring_.submit().has_value());
    }

    Result<void> wait(int64_t timeout_ns) override {
        TRY(ring_.submit_and_wait(retry_at_ns_ == 0 ? timeout_ns : retry(timeout_ns)));
        return {};
    }

    void dispatch() override {
        // Everything that is ready now. Completions that stayed over in each turn would fill the ring up, and removed
        // slots would wait for their last completion in vain.
        const unsigned ready = ring_.ready();
        unsigned reaped = 0;
        do {
            const unsigned some = ring_.reap();
            if (some == 0) break;
            reaped += some;
        } while (reaped < ready);
    }

    bool pending() override { return ring_.pending(); }

private:
    struct Slot final : Completion {
        enum class State {
            kFree,
            kWatching,
            kUnarmed,  ///< watched, but the kernel refused the poll: retry() arms it again
            kRemoving,
        };
        explicit Slot(UringPoller& owner) : poller(owner) {}

        void arm() {
            io_uring_sqe* entry = poller.ring_.prepare(this);
            if (!entry) return refused(-EAGAIN);
            io_uring_prep_poll_multishot(entry, fd, events);
            io_uring_sqe_set_data(entry, static_cast<Completion*>(this));
            state = State::kWatching;
        }

        void refused(int32_t result) {
            state = State::kUnarmed;
            poller.retry_later(result);
        }

        void cancel() {
            io_uring_sqe* entry = poller.ring_.prepare(&cancelled);
            cancel_unsubmitted = !entry;
            if (!entry) return poller.retry_later(-EAGAIN);
            io_uring_prep_cancel(entry, static_cast<Completion*>(this), 0);
            io_uring_sqe_set_data(entry, static_cast<Completion*>(&cancelled));
        }

        void on_completion(int32_t result, uint32_t flags) override {
            const bool last = !(flags & IORING_CQE_F_MORE);
            if (state == State::kRemoving) {
                poll_ended = poll_ended || last;
                return free_if_ended();
            }
            // A multishot poll ends by itself when the completion queue is full, or when another ring woke it.
            if (last && result >= 0) arm();
            if (last && result < 0) refused(result);
            // The descriptor may be ready for anything while nothing watches it.
            watcher->on_ready(result >= 0 ? static_cast<uint32_t>(result) : events);
        }

        void on_cancelled(int32_t result) {
            // The poll was just delivering an event, or the kernel lacked memory: the poll is still there.
            if ((result == -EALREADY || Ring::is_shortage(result)) && !poll_ended) return cancel();
            // The kernel knows no such poll any more, and the poll's last completion came before this one.
            if (result == -ENOENT) poll_ended = true;
            cancel_ended = true;
            free_if_ended();
        }

        void free_if_ended() {
            if (poll_ended && cancel_ended) state = State::kFree;
        }

        struct Cancelled final : Completion {
            explicit Cancelled(Slot& owner) : slot(owner) {}
            void on_completion(int32_t result, uint32_t) override { slot.on_cancelled(result); }
            Slot& slot;
        };

        UringPoller& poller;
        State state = State::kFree;
        int fd = -1;
        uint32_t events = 0;
        Watcher* watcher = nullptr;
        // While it is being removed: the slot is free once neither the poll nor its cancellation can complete any more.
        bool poll_ended = false, cancel_ended = false;
        bool cancel_unsubmitted = false;
        Cancelled cancelled{*this};
    };

    void retry_later(int32_t result) {
        LOG_LIMITED("the host cannot watch a descriptor: %s: it is asked again every %lu ms",
                    errno_text(-result).c_str(), static_cast<unsigned long>(limits::kWatchRetry_ms));
        if (retry_at_ns_ == 0) retry_at_ns_ = monotonic_ns() + limits::kWatchRetry_ms * 1'000'000;
    }

    // Tries again what the kernel refused. Returns how long the loop may wait.
    int64_t retry(int64_t timeout_ns) {
        const uint64_t now_ns = monotonic_ns();
        if (now_ns >= retry_at_ns_) {
            retry_at_ns_ = 0;
            for (const auto& slot : slots_) {
                if (!slot) break;
                if (slot->state == Slot::State::kUnarmed) slot->arm();
                if (slot->state == Slot::State::kRemoving && slot->cancel_unsubmitted) slot->cancel();
            }
        }
        if (retry_at_ns_ == 0) return timeout_ns;
        const auto left_ns = static_cast<int64_t>(retry_at_ns_ > now_ns ? retry_at_ns_ - now_ns : 0);
        return timeout_ns < 0 ? left_ns : std::min(left_ns, timeout_ns);
    }

    // Slots before the ring: the ring goes first, so no completion can find its slot gone.
    std::array<std::unique_ptr<Slot>, limits::kMaxWatches> slots_;
    unsigned next_file_slot_ = 0;
    uint64_t retry_at_ns_ = 0;  // 0: the kernel has taken everything
    Ring ring_;
};

}  // namespace

Result<std::unique_ptr<Poller>> create_uring_poller() {
    auto poller = std::make_unique<UringPoller>();
    TRY(poller->create());
    return poller;
}

}  // namespace wisp
