// SPDX-License-Identifier: Apache-2.0
//
// NetReceiver: frames for the guest, read from the tap straight into the guest's buffers, several at a time, or made by
// the responder. Owns the guest's buffers in hand, the frames that wait for buffers, and the rate limiter.
//
// The length of a frame is not known before it is read. So each read gets buffers for a frame as long as the last ones,
// and behind them memory of ours (the slot) for the rest, which is then copied into more buffers. Where the guest has
// none, the whole frame waits in its slot, and nothing is read meanwhile.
//
// Threads: the loop's. Chains are the guest's word; frames come from anywhere.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "base/mapping.h"
#include "base/rate_limiter.h"
#include "virtio/net/buffers.h"
#include "virtio/net/interface.h"

namespace wisp::virtio {

class NetReceiver {
public:
    static constexpr unsigned kQueue = 0;

    /// `on_ready` is called when the rate limiter or a timer lets frames go on.
    NetReceiver(NetInterface& interface, const std::function<void()>& on_ready);

    /// Memory for the frames that wait; nothing is allocated later.
    Result<void> reserve();
    RateLimiter& limiter() { return rate_limiter_; }
    const RateLimiter& limiter() const { return rate_limiter_; }
    /// The driver is ready, with the features that interface.queues has.
    void activate();

    /// Frames may be waiting in the tap.
    void on_tap_readable() { tap_readable_ = true; }
    /// Frames wait for buffers of the guest: another event of the tap tells nothing new.
    bool waits_for_buffers() const { return tap_readable_ && needs_buffers_; }
    /// True if serve() may have something to do.
    bool has_work() const;
    /// Delivers until there are no frames, no buffers, the turn is over, or the limiter makes frames wait.
    void serve();
    /// The driver has to kick from now on, if frames wait for its buffers. True if there is work already.
    [[nodiscard]] bool arm();

    /// For a pause: gives the buffers in hand back to the queue. Frames that wait stay.
    void finish();
    /// Goes on after a pause.
    void resume();
    /// Gives up the buffers in hand, without returning their chains, and the frames that wait: for a reset or a broken
    /// queue.
    void abandon();

private:
    /// Where one frame of a batch goes: buffers of the guest, and behind them memory of ours for what they do not hold.
    /// A frame that cannot be delivered yet is kept there as a whole.
    struct Slot {
        static constexpr size_t kRoom = (limits::kNetMaxFrame + limits::kPageSize) & ~(limits::kPageSize - 1);

        std::byte* memory = nullptr;
        size_t first = 0, count = 0;  // buffers set aside
        uint64_t capacity = 0;        // their bytes
        uint64_t kept = 0;            // bytes of the frame that is kept; 0: none
        bool paid = false;            // it has passed the rate limiter
    };

    using Gathered = ReceiveBuffers::Gathered;

    const Queue& queue() const { return interface_.queues[kQueue]; }
    Queue& queue() { return interface_.queues[kQueue]; }
    bool keeps_frames() const { return kept_begin_ != kept_end_; }
    bool serve_next();
    bool receive_batch();
    unsigned plan_batch();
    size_t plan_slot(Slot& slot, size_t first, uint64_t wanted, size_t parts);
    void finish_batch(unsigned planned);
    void finish_frame(Slot& slot, uint64_t size);
    const char* find_fault(const Slot& slot, uint64_t size);
    uint32_t use_buffer(size_t index, uint64_t size);
    void count_received(const Slot& slot, uint64_t size);
    void drop(const char* reason);
    void keep(Slot& slot, uint64_t size);
    void take_answer();
    bool deliver(Slot& slot);
    void stop_waiting();
    bool wait_for_buffers(Gathered gathered, uint64_t patience_ns);

    NetInterface& interface_;
    RateLimiter rate_limiter_;
    ReceiveBuffers buffers_;
    Mapping memory_;
    std::array<Slot, limits::kNetReceiveBatch> slots_;
    Slot answer_;  // the responder's frames
    std::array<FrameTransfer, limits::kNetReceiveBatch> transfers_;
    std::vector<GuestSlice> parts_;
    size_t spare_ = 0;                      // of a batch that is being finished: the first buffer that no slot has
    size_t kept_begin_ = 0, kept_end_ = 0;  // slots with kept frames, in their order

    // What the next batch is planned with.
    unsigned batch_ = 2;      // frames
    uint64_t expected_ = 1;   // bytes of each
    bool mergeable_ = false;  // a frame may span buffers (MRG_RXBUF)

    bool tap_readable_ = false;   // until it said EAGAIN
    bool needs_buffers_ = false;  // frames wait for buffers of the guest
    Timer patience_timer_;
    bool patience_over_ = false;  // the buffers that there are have to do
};

}  // namespace wisp::virtio
