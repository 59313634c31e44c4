// SPDX-License-Identifier: Apache-2.0
//
// ReceiveBuffers: the driver's receive buffers in hand: popped, and not yet filled. The device needs them before it
// knows how long the next frame is, and does not use all of them for it.
//
// Buffers are used from the front. Where a frame needed fewer than were set aside for it, later ones may be used first.
// Only buffers behind the last used one can be put back into the queue (give_back()).
//
// Threads: the loop's. Trusts no chain.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/guest_memory.h"
#include "base/limits.h"
#include "virtio/net/interface.h"
#include "virtio/queue.h"

namespace wisp::virtio {

class ReceiveBuffers {
public:
    ReceiveBuffers(NetInterface& interface, unsigned queue) : interface_(interface), queue_(queue) {}
    /// Memory for all of them; nothing is allocated later.
    void reserve();
    ~ReceiveBuffers() { abandon(); }

    size_t count() const { return buffers_.size(); }
    /// Bytes that the buffers from `first` on hold.
    uint64_t capacity(size_t first = 0) const;
    uint32_t size(size_t index) const { return buffers_[index].size; }

    enum class Gathered : uint8_t {
        kEnough,
        kTooFew,  ///< the queue has no more now, or (look at its fault()) is broken
        kFull,    ///< the queue may have more, but no more can be in hand
    };
    /// Takes buffers until those from `first` on hold `wanted` bytes. A chain that is no receive buffer goes back to
    /// the driver empty and is counted in rx_fails.
    Gathered gather(size_t first, uint64_t wanted);

    /// The segments of one buffer.
    std::span<WritableSlice> slices(size_t index);

    /// The driver gets a buffer with `written` bytes in it. The others keep their numbers until sweep().
    void use(size_t index, uint32_t written);
    void sweep();

    /// All buffers back to the queue, as if they had never been popped; those before a used one come back empty.
    void give_back();
    /// Gives all buffers up without returning them: for a queue that is being reset or is broken.
    void abandon();

private:
    struct Buffer {
        Chain chain;
        uint32_t size;  // bytes
        uint16_t first_slice;
        uint16_t slice_count;
        uint16_t position;  // in the order in which buffers were taken
    };
    const char* take(Chain& chain);
    bool make_room();
    Queue& queue() { return interface_.queues[queue_]; }

    NetInterface& interface_;
    const unsigned queue_;
    std::vector<Buffer> buffers_;
    std::vector<GuestSlice> slices_;  // kNetSlices, the first slices_used_ in use
    size_t slices_used_ = 0;
    uint16_t next_position_ = 0;
    uint16_t behind_last_used_ = 0;  // position
};

}  // namespace wisp::virtio
