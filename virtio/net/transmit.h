// SPDX-License-Identifier: Apache-2.0
//
// NetTransmitter: the guest's frames, from its transmit queue to the tap or to the responder. Owns the frames in hand
// and the rate limiter.
//
// Threads: the loop's. Chains, headers and frames are the guest's word: each header is copied once and checked, and the
// copy is what the kernel gets.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "base/rate_limiter.h"
#include "virtio/net/header.h"
#include "virtio/net/interface.h"

namespace wisp::virtio {

class NetTransmitter {
public:
    static constexpr unsigned kQueue = 1;

    /// `on_ready` is called when the rate limiter lets frames go on.
    NetTransmitter(NetInterface& interface, std::function<void()> on_ready);
    ~NetTransmitter() { abandon(); }

    RateLimiter& limiter() { return rate_limiter_; }
    const RateLimiter& limiter() const { return rate_limiter_; }
    /// The tap is full: frames in hand wait for it.
    bool blocked() const { return blocked_; }
    /// True if serve() has something to do.
    bool has_work() const { return may_take() && queue().has_available(); }
    /// Sends until the queue is empty, the turn is over, or the tap or the limiter makes frames wait.
    void serve();
    /// The driver has to kick from now on. True if there is work already.
    [[nodiscard]] bool arm() { return may_take() && interface_.queues.enable_notifications(kQueue); }
    /// The tap may have room again.
    void on_tap_writable();

    /// For a pause: gives the frames in hand to the tap, and drops those that it does not take.
    void finish();
    /// Gives up the frames in hand, without returning their chains: for a reset or a broken queue.
    void abandon();

private:
    /// A frame of the guest, from pop to push. Its first part is ours: the header that was checked and, where a
    /// responder looks at frames, the start that it saw. The others are guest memory.
    struct Frame {
        Chain chain;
        FrameTransfer transfer;
        uint64_t size = 0;  // without the virtio header
        struct Head {
            NetHeader header;
            std::array<std::byte, FrameResponder::kStart> start;
        } head;
    };
    enum class Taken : uint8_t { kYes, kNotNow };

    const Queue& queue() const { return interface_.queues[kQueue]; }
    Queue& queue() { return interface_.queues[kQueue]; }
    bool may_take() const { return interface_.queues.serving() && !blocked_ && !rate_limiter_.blocked(); }
    bool take_batch();
    Taken take_frame(Chain& chain, size_t begin);
    void answer(std::span<GuestSlice> rest, size_t seen);
    void drop(Chain& chain, const char* reason);
    void send_batch();
    void finish_frame(Frame& frame, int64_t result);
    void forget_batch();

    NetInterface& interface_;
    RateLimiter rate_limiter_;
    std::array<Frame, limits::kNetSendBatch> frames_;
    unsigned count_ = 0;  // frames in hand; one whose chain is not owned is done with
    std::vector<GuestSlice> slices_;
    size_t slices_used_ = 0;
    std::vector<std::byte> copy_;  // of a frame for the responder
    bool blocked_ = false;
};

}  // namespace wisp::virtio
