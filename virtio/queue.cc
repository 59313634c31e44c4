// SPDX-License-Identifier: Apache-2.0
#include "virtio/queue.h"

#define VIRTIO_RING_NO_LEGACY  // the rest of that header is C
#include <linux/virtio_ring.h>

#include <atomic>
#include <bit>

#include "base/check.h"
#include "base/endian.h"
#include "virtio/device.h"

namespace wisp::virtio {

namespace {

static_assert(std::endian::native == std::endian::little, "ring indices are read as they lie");

struct Descriptor {
    le64 address;
    le32 length;
    le16 flags;
    le16 next;
};
static_assert(sizeof(Descriptor) == sizeof(vring_desc));

struct UsedElement {
    le32 id;
    le32 length;
};
static_assert(sizeof(UsedElement) == sizeof(vring_used_elem));

// Offsets in the driver area and in the device area (section 2.7): flags, index, ring, and the other side's event
// index.
constexpr size_t kFlags = 0;
constexpr size_t kIndex = 2;
constexpr size_t kRing = 4;
size_t used_event_offset(uint16_t size) {
    return kRing + sizeof(uint16_t) * size;
}
size_t available_event_offset(uint16_t size) {
    return kRing + sizeof(UsedElement) * size;
}

using Shared16 [[gnu::may_alias]] = uint16_t;

uint16_t load16(const std::byte* at) {
    return __atomic_load_n(static_cast<const Shared16*>(static_cast<const void*>(at)), __ATOMIC_RELAXED);
}
// Pairs with the driver's write barrier before it moves the available index: what the index covers is then visible.
uint16_t load16_acquire(const std::byte* at) {
    return __atomic_load_n(static_cast<const Shared16*>(static_cast<const void*>(at)), __ATOMIC_ACQUIRE);
}
void store16(std::byte* at, uint16_t value) {
    __atomic_store_n(static_cast<Shared16*>(static_cast<void*>(at)), value, __ATOMIC_RELAXED);
}
void store16_release(std::byte* at, uint16_t value) {
    __atomic_store_n(static_cast<Shared16*>(static_cast<void*>(at)), value, __ATOMIC_RELEASE);
}

struct RingRange {
    const char* name;
    GuestAddress start;
    uint64_t size;
    uint64_t alignment;
    const std::byte* host = nullptr;
};

bool overlap(const RingRange& a, const RingRange& b) {
    // Neither sum wraps: both lie in guest memory.
    return a.start.value < b.start.value + b.size && b.start.value < a.start.value + a.size;
}

}  // namespace

Chain& Chain::operator=(Chain&& other) noexcept {
    CHECK(!owned());
    readable_ = other.readable_;
    writable_ = other.writable_;
    fault_ = other.fault_;
    head_ = std::exchange(other.head_, kNone);
    return *this;
}

// The guest would wait for ever for a chain that is neither pushed nor abandoned.
Chain::~Chain() {
    CHECK(!owned());
}

Result<Queue> Queue::create(const GuestMemory& memory, const QueueState& state, uint64_t features, uint16_t max_size) {
    if (!std::has_single_bit(state.size) || state.size > max_size)
        return fail("size %u is not a power of two up to %u", state.size, max_size);
    RingRange rings[] = {
        {"descriptor table", state.descriptors, sizeof(Descriptor) * state.size, 16},
        {"available ring", state.available, used_event_offset(state.size) + sizeof(uint16_t), 2},
        {"used ring", state.used, available_event_offset(state.size) + sizeof(uint16_t), 4},
    };
    for (RingRange& ring : rings) {
        if (ring.start.value % ring.alignment != 0)
            return fail("the %s at 0x%lx is not aligned to %lu", ring.name, ring.start.value, ring.alignment);
        ring.host = memory.host_range(ring.start, ring.size);
        if (!ring.host) return fail("the %s at 0x%lx is not in guest memory", ring.name, ring.start.value);
    }
    for (int i = 0; i < 3; ++i)
        if (const RingRange &a = rings[i], &b = rings[(i + 1) % 3]; overlap(a, b))
            return fail("the %s at 0x%lx overlaps the %s", a.name, a.start.value, b.name);

    Queue queue;
    queue.memory_ = &memory;
    queue.descriptors_ = rings[0].host;
    queue.available_ = rings[1].host;
    queue.used_ = static_cast<std::byte*>(memory.writable(state.used, rings[2].size)->host_address());
    queue.state_ = state;
    queue.published_ = state.next_used;
    queue.seen_available_ = state.next_available;
    queue.event_idx_ = features & kFeatureEventIdx;
    queue.indirect_ = features & kFeatureIndirectDesc;
    return queue;
}

uint16_t Queue::available_index() const {
    return load16_acquire(available_ + kIndex);
}

Queue::Pop Queue::broken(const char* reason) {
    fault_ = reason;
    return Pop::kBroken;
}

Queue::Pop Queue::pop(Chain& chain, std::span<GuestSlice> storage) {
    if (!enabled()) return Pop::kEmpty;
    if (fault_) return Pop::kBroken;
    if (state_.next_available == seen_available_) {
        seen_available_ = available_index();
        if (state_.next_available == seen_available_) return Pop::kEmpty;
        // Section 2.7.13.3: the driver never has more than a queue's worth of chains outstanding.
        if (static_cast<uint16_t>(seen_available_ - state_.next_available) > state_.size)
            return broken("the available index is further ahead than the queue is long");
    }
    const uint16_t slot = state_.next_available & (state_.size - 1);
    const uint16_t head = load16(available_ + kRing + sizeof(uint16_t) * slot);
    // Such a head could not even be returned: the used ring names descriptors.
    if (head >= state_.size) return broken("an available ring entry names a descriptor beyond the table");

    Chain popped;
    popped.head_ = head;
    Walk walk{storage, popped.readable_, popped.writable_};
    popped.fault_ = follow(head, walk);
    if (popped.fault_) popped.readable_ = popped.writable_ = {};
    ++state_.next_available;
    chain = std::move(popped);
    return Pop::kChain;
}

// Walks a chain, at most as many descriptors as the queue has entries (section 2.7.5.2: a driver makes no longer one),
// so a loop ends here. Returns what is wrong with it, or null.
const char* Queue::follow(uint16_t head, Walk& walk) const {
    const std::byte* table = descriptors_;
    uint32_t entries = state_.size;
    uint32_t index = head;
    uint64_t total = 0;
    size_t segments = 0, readable = 0;
    bool writable_seen = false, in_indirect_table = false;

    for (uint32_t count = 0; count < state_.size;) {
        Descriptor descriptor;
        copy_from_shared(&descriptor, table + index * sizeof descriptor, sizeof descriptor);
        const uint16_t flags = descriptor.flags;
        if (flags & ~(VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)) return "unknown descriptor flag";

        if (flags & VRING_DESC_F_INDIRECT) {
            if (!indirect_) return "indirect descriptor without VIRTIO_F_INDIRECT_DESC";
            // Not told by the table's address: an indirect table may be placed over the descriptor table itself.
            if (in_indirect_table) return "indirect descriptor within an indirect table";
            if (flags & VRING_DESC_F_NEXT) return "descriptor is both indirect and followed by another";
            if (descriptor.length == 0 || descriptor.length % sizeof descriptor != 0)
                return "indirect table whose length is no multiple of 16";
            table = memory_->host_range({descriptor.address}, descriptor.length);
            if (!table) return "indirect table outside of guest memory";
            entries = static_cast<uint32_t>(descriptor.length / sizeof descriptor);
            index = 0;
            in_indirect_table = true;
            continue;  // it only points at the chain, and there is no second one
        }

        ++count;
        const bool writable = flags & VRING_DESC_F_WRITE;
        if (writable_seen && !writable) return "readable descriptor after a writable one";
        writable_seen = writable;
        if (descriptor.length > 0) {
            const GuestAddress at{descriptor.address};
            const auto slice = writable ? std::optional<GuestSlice>(memory_->writable(at, descriptor.length))
                                        : memory_->slice(at, descriptor.length);
            if (!slice) return "buffer outside of guest memory";
            if (segments == walk.storage.size()) return "more segments than the device takes";
            walk.storage[segments++] = *slice;
            if (!writable) readable = segments;
            total += descriptor.length;
            if (total > UINT32_MAX) return "buffers of 4 GiB or more";  // section 2.7.4.2
        }
        if (!(flags & VRING_DESC_F_NEXT)) {
            walk.readable = walk.storage.first(readable);
            walk.writable = walk.storage.subspan(readable, segments - readable);
            return nullptr;
        }
        index = descriptor.next;
        if (index >= entries) return "next descriptor lies beyond the table";
    }
    return "chain longer than its queue";
}

// The used ring has a few pages only: all of them are marked at once.
void Queue::mark_used_ring() const {
    if (memory_->tracks_writes()) [[unlikely]]
        (void)memory_->writable(state_.used, available_event_offset(state_.size) + sizeof(uint16_t));
}

void Queue::push(Chain&& chain, uint32_t written) {
    CHECK(chain.owned());
    mark_used_ring();
    const uint16_t slot = state_.next_used & (state_.size - 1);
    const UsedElement element{chain.head(), written};
    copy_to_shared(used_ + kRing + sizeof element * slot, &element, sizeof element);
    ++state_.next_used;
    chain.abandon();
}

void Queue::unpop(Chain&& chain) {
    CHECK(chain.owned());
    --state_.next_available;
    chain.abandon();
}

bool Queue::publish() {
    if (!has_unpublished()) return false;
    mark_used_ring();
    const uint16_t before = std::exchange(published_, state_.next_used);
    // Release: the used elements are visible before the index that covers them.
    store16_release(used_ + kIndex, published_);
    // The index must be visible before we look whether the driver wants to hear of it; the driver stores its wish and
    // then looks at the index, with a full barrier between as well (section 2.7.10). One of the two sees the other.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!event_idx_) return !(load16(available_ + kFlags) & VRING_AVAIL_F_NO_INTERRUPT);
    const uint16_t used_event = load16(available_ + used_event_offset(state_.size));
    return vring_need_event(used_event, published_, before);
}

void Queue::disable_notifications() {
    if (!enabled() || fault_) return;
    mark_used_ring();
    // With EVENT_IDX nothing need be written: the driver kicks when its index passes the event index, which stays
    // behind.
    if (!event_idx_) store16(used_ + kFlags, VRING_USED_F_NO_NOTIFY);
}

bool Queue::enable_notifications() {
    if (!enabled() || fault_) return false;
    mark_used_ring();
    if (event_idx_)
        store16(used_ + available_event_offset(state_.size), state_.next_available);
    else
        store16(used_ + kFlags, 0);
    // Our wish must be visible before we look once more; pairs with the driver's full barrier between its index and its
    // look at our wish (section 2.7.13.4.1).
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return has_available();
}

}  // namespace wisp::virtio
