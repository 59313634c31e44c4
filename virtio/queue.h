// SPDX-License-Identifier: Apache-2.0
//
// Queue: one split virtqueue (virtio 1.2, section 2.7), the device's side of it.
//
// All three rings lie in guest memory, and the driver may change them at any moment. Each descriptor and index is
// copied once, by one volatile or atomic read, and checked before it is used. There are two kinds of fault:
//   - a fault of a chain: the driver gets that chain back, the others are served;
//   - a fault of the ring: nothing in it can be trusted any more, and the device asks for a reset.
//
// While GuestMemory tracks writes, the queue marks the writable segments of a chain when it pops the chain, before a
// device or the kernel can write to them, and its used ring before it writes there. So marks may only be taken while
// no chain is in hand.
//
// Threads: a queue belongs to its device's loop. Between pop() and push() a chain has one owner, its Chain object.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wisp::virtio {

/// A descriptor chain between pop() and push(). Its segments lie in the storage that was given to pop().
class Chain {
public:
    Chain() = default;
    Chain(Chain&& other) noexcept
        : readable_(other.readable_),
          writable_(other.writable_),
          fault_(other.fault_),
          head_(std::exchange(other.head_, kNone)) {}
    Chain& operator=(Chain&& other) noexcept;
    ~Chain();

    /// The segments that the driver wrote for the device, in order, without empty ones. A cursor may consume them in
    /// place (see cursor.h).
    std::span<GuestSlice> readable() const { return readable_; }
    /// The segments that the device fills, in order. They follow the readable ones (section 2.7.4.2).
    std::span<WritableSlice> writable() const { return as_writable(writable_); }
    /// Null, or the fault of the chain: then it has no segments and can only be pushed.
    const char* fault() const { return fault_; }
    bool owned() const { return head_ != kNone; }
    uint16_t head() const { return head_; }

    /// Gives the chain up without returning it to the driver: after a reset it belongs to no queue.
    void abandon() { head_ = kNone; }

private:
    friend class Queue;
    static constexpr uint16_t kNone = UINT16_MAX;  // no head: a queue has at most 32768 entries
    std::span<GuestSlice> readable_;
    std::span<GuestSlice> writable_;
    const char* fault_ = nullptr;
    uint16_t head_ = kNone;
};

/// The places of a queue's rings and the positions in them: the whole state of a drained queue.
struct QueueState {
    uint16_t size = 0;            ///< entries
    GuestAddress descriptors;     ///< descriptor table: 16 bytes an entry, aligned to 16
    GuestAddress available;       ///< driver area, aligned to 2
    GuestAddress used;            ///< device area, aligned to 4
    uint16_t next_available = 0;  ///< index of the next chain to pop
    uint16_t next_used = 0;       ///< index of the next used element
};

class Queue {
public:
    enum class Pop : uint8_t {
        kEmpty,   ///< no chain is available
        kChain,   ///< `chain` is filled; look at its fault() first
        kBroken,  ///< the ring is broken (see fault()): signal_needs_reset() and stop
    };

    /// A queue that the driver did not enable.
    Queue() = default;
    /// Checks the layout (section 2.7): size a power of two up to `max_size`, alignment, each ring within one region of
    /// memory, no two rings overlapping. `features` are the negotiated ones.
    static Result<Queue> create(const GuestMemory& memory, const QueueState& state, uint64_t features,
                                uint16_t max_size);

    uint16_t size() const { return state_.size; }
    bool enabled() const { return state_.size != 0; }
    /// The fault of the ring, or null.
    const char* fault() const { return fault_; }

    /// Takes the next available chain. `storage` receives its segments and must stay until the chain is done with; a
    /// chain with more segments than that is at fault. Storage of size() segments holds every legal chain.
    Pop pop(Chain& chain, std::span<GuestSlice> storage);
    /// True if a chain may be available. Cheap: for busy-polling.
    bool has_available() const { return enabled() && !fault_ && available_index() != state_.next_available; }

    /// Returns a chain with `written` bytes filled from the front of its writable segments. The driver sees it after
    /// publish().
    void push(Chain&& chain, uint32_t written);
    /// Puts the chain that was popped last back, as if it had not been popped: for a device that cannot take it on yet.
    void unpop(Chain&& chain);
    /// Shows the driver all chains that were pushed since the last call. True if the driver wants an interrupt for
    /// them.
    [[nodiscard]] bool publish();
    bool has_unpublished() const { return state_.next_used != published_; }

    /// Asks the driver not to kick while the queue is being served.
    void disable_notifications();
    /// Asks for kicks again. True if chains arrived before that: there is no kick for them, so serve them and call this
    /// again.
    [[nodiscard]] bool enable_notifications();

    /// As of the last publish(). Chains that are popped and not pushed are lost to it: drain first.
    const QueueState& save() const { return state_; }

private:
    struct Walk {
        std::span<GuestSlice> storage;
        std::span<GuestSlice>& readable;
        std::span<GuestSlice>& writable;
    };
    uint16_t available_index() const;
    const char* follow(uint16_t head, Walk& walk) const;
    void mark_used_ring() const;
    Pop broken(const char* reason);

    const GuestMemory* memory_ = nullptr;
    const std::byte* descriptors_ = nullptr;  // host addresses of the rings, for volatile and atomic access only
    const std::byte* available_ = nullptr;
    std::byte* used_ = nullptr;
    QueueState state_;
    uint16_t published_ = 0;       // used index as the driver sees it
    uint16_t seen_available_ = 0;  // available index as last read: what lies before it needs no new read
    bool event_idx_ = false;
    bool indirect_ = false;
    const char* fault_ = nullptr;
};

}  // namespace wisp::virtio
