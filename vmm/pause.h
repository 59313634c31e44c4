// SPDX-License-Identifier: Apache-2.0
//
// Pause: whether a machine runs, and who holds it still. A client, a snapshot and a change of a device may each hold
// it; it runs when none of them does. Pausing is asynchronous: first the vCPUs leave the guest, then the devices finish
// what is in flight.
//
// Threads: the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/limits.h"
#include "base/loop.h"
#include "base/result.h"

namespace wisp {

/// Why a machine is held still. One of each kind at a time.
enum class Hold : uint8_t { kClient, kSnapshot, kDevice };

class Pause {
public:
    enum class State : uint8_t { kRunning, kPausing, kPaused };
    using Done = std::move_only_function<void(Result<void>)>;

    /// What is paused.
    class Parts {
    public:
        virtual void stop_vcpus() = 0;
        /// True once no vCPU is in the guest.
        virtual bool vcpus_stopped() const = 0;
        virtual void stop_devices() = 0;
        /// True once no device has anything in flight.
        virtual bool devices_stopped() const = 0;
        /// Takes back both, from whatever state.
        virtual void go_on() = 0;
        /// What has not stopped, for the error: "drive rootfs, vCPU 1".
        virtual std::string unfinished() const = 0;

    protected:
        ~Parts() = default;
    };

    Pause(Loop& loop, Parts& parts, uint64_t deadline_ns = limits::kPauseDeadline_ns)
        : parts_(parts), deadline_ns_(deadline_ns), deadline_(loop, [this] { on_deadline(); }) {}

    State state() const { return state_; }
    bool is_held_by(Hold hold) const { return holds_ & bit(hold); }

    /// Holds the machine still, and calls `done` when it stands. An error names what did not stop in time; the hold is
    /// then gone, and the machine runs on if there is no other.
    void acquire(Hold hold, Done done);
    /// Ends a hold. The machine goes on if it was the last one. An acquire() that is not done yet fails.
    void release(Hold hold);

    /// A vCPU or a device has stopped.
    void on_progress();

private:
    struct Waiter {
        Hold hold;
        Done done;
    };
    static uint8_t bit(Hold hold) { return static_cast<uint8_t>(1u << static_cast<unsigned>(hold)); }
    void go_on();
    void on_deadline();
    void answer(std::vector<Waiter> waiters, const Result<void>& outcome);

    Parts& parts_;
    const uint64_t deadline_ns_;
    Timer deadline_;
    State state_ = State::kRunning;
    bool devices_asked_ = false;
    uint8_t holds_ = 0;  // bits
    std::vector<Waiter> waiters_;
};

}  // namespace wisp
