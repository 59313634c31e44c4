// SPDX-License-Identifier: Apache-2.0
//
// DeviceQueues: what every virtio device does with its queues: it keeps the device's state (inactive, active, paused,
// broken, draining), divides the loop's turns among the queues, publishes used buffers and interrupts the driver, and
// switches the driver's notifications on and off.
//
// Each device owns one. The queues themselves belong to the transport and exist while the device is activated.
//
// Threads: the loop's. Trusts nothing in a queue; see queue.h.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "base/limits.h"
#include "base/loop.h"
#include "virtio/device.h"
#include "virtio/queue.h"

namespace wisp::virtio {

class DeviceQueues {
public:
    enum class State : uint8_t {
        kInactive,  ///< no driver
        kActive,
        kBroken,    ///< a ring is broken: the queues are not touched again before a reset
        kDraining,  ///< a reset has begun, and work is still in flight
    };

    /// The loop polls `source` while the device is activated. Both outlive this object.
    DeviceQueues(Loop& loop, PollSource& source) : loop_(loop), source_(source) {}

    // ---- state ----

    void activate(const Activation& activation);
    /// A reset has begun: nothing is taken any more, and what is in flight must not be pushed.
    void start_drain() { state_ = State::kDraining; }
    /// Back to the state before activate(). A pause stays.
    void deactivate();
    /// A ring is broken: publishes what was done before, and asks the driver for a reset. `reason` goes to the log.
    void set_broken(const char* reason);
    void pause() { paused_ = true; }
    void resume() { paused_ = false; }

    State state() const { return state_; }
    bool paused() const { return paused_; }
    /// Chains may be pushed and published.
    bool active() const { return state_ == State::kActive; }
    /// Chains may be taken too.
    bool serving() const { return state_ == State::kActive && !paused_; }

    // ---- what the driver has set up; between activate() and deactivate() ----

    bool activated() const { return activation_.has_value(); }
    unsigned count() const { return activation_ ? static_cast<unsigned>(activation_->queues.size()) : 0; }
    Queue& operator[](unsigned index) { return activation_->queues[index]; }
    const Queue& operator[](unsigned index) const { return activation_->queues[index]; }
    uint64_t features() const { return activation_->features; }
    Interrupt& interrupt() { return activation_->interrupt; }

    // ---- turns ----

    /// Asks for a batch of work on a queue. True for the first batch of each queue in a turn of the loop, so that no
    /// queue starves, and then for as long as the turn's budget lasts. False: the loop polls again in its next turn.
    /// Reads the clock from the second batch on, so look first whether there is anything to do.
    bool begin_batch(unsigned index);
    /// Before each piece of work: whether the batch has room for it.
    bool batch_has_room(unsigned index) const { return shares_[index].batch_left > 0; }
    /// Charges the batch and the loop's turn for a piece of work that moved so many bytes.
    void charge(unsigned index, uint64_t bytes) {
        uint64_t& left = shares_[index].batch_left;
        left -= std::min(left, bytes + limits::kTurnItemBytes);
        loop_.budget().take(bytes);
    }

    // ---- the driver ----

    /// Shows the driver all chains that were pushed, and interrupts it once if it wants that. Only while active().
    void publish();
    /// The device looks at the queue by itself: the driver need not kick. Cheap where that is so already.
    void disable_notifications(unsigned index) {
        if (std::exchange(shares_[index].notifies, false)) (*this)[index].disable_notifications();
    }
    /// The driver has to kick from now on. True if the queue has chains already, of which no kick will tell.
    [[nodiscard]] bool enable_notifications(unsigned index) {
        if (!std::exchange(shares_[index].notifies, true)) return (*this)[index].enable_notifications();
        return (*this)[index].has_available();
    }

private:
    struct Share {
        uint64_t turn = UINT64_MAX;  // the loop's turn in which the last batch began
        uint64_t batch_left = 0;     // bytes
        bool notifies = true;        // the driver kicks
    };

    Loop& loop_;
    PollSource& source_;
    Polling polling_;
    State state_ = State::kInactive;
    bool paused_ = false;
    std::optional<Activation> activation_;
    std::array<Share, limits::kMaxDeviceQueues> shares_;
};

/// Copies a part of a device's configuration space; what lies beyond it reads as zero.
template <class Space>
void copy_config(const Space& space, uint32_t offset, std::span<std::byte> data) {
    const auto bytes = std::as_bytes(std::span(&space, 1));
    for (size_t i = 0; i < data.size(); ++i) data[i] = offset + i < bytes.size() ? bytes[offset + i] : std::byte{0};
}

}  // namespace wisp::virtio
