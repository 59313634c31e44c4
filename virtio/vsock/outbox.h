// SPDX-License-Identifier: Apache-2.0
//
// VsockOutbox: the guest's data of one connection that waits for the host's socket. It waits where it is, in guest
// memory, as parked packets whose chains the device still owns; where too much is parked already, it is copied into a
// buffer, which the connection's credit bounds.
//
// Threads: the loop's. The bytes are the guest's and are copied or handed to the kernel, never looked at.
#pragma once

#include <array>
#include <memory>
#include <new>
#include <span>
#include <utility>

#include "base/check.h"
#include "base/limits.h"
#include "base/mapping.h"
#include "base/result.h"
#include "virtio/queue.h"

namespace wisp::virtio {

/// A packet that waits in guest memory.
struct VsockParked {
    Chain chain;
    std::span<GuestSlice> data;   // of `segments`; used up from the front
    unsigned descriptors = 0;     // of the queue that it occupies, at most
    VsockParked* next = nullptr;  // in its outbox, or in the pool's free list
    std::array<GuestSlice, limits::kVsockParkedSegments> segments;
};

/// Memory for all parked packets of a device, so that none is allocated while the VM runs. Touched as it is used.
class VsockParkedPool {
public:
    Result<void> reserve() {
        memory_ = TRY(Mapping::anonymous(limits::kVsockParked * sizeof(VsockParked), limits::kPageSize, 0,
                                         "the packets of a vsock device"));
        return {};
    }
    ~VsockParkedPool() {
        for (unsigned i = 0; i < made_; ++i) at(i)->~VsockParked();
    }
    /// Most descriptors of the guest's queue that all may occupy: the others stay for connections whose readers read.
    void set_descriptors(unsigned most) { most_descriptors_ = most; }
    bool has_room(unsigned descriptors) const {
        return (free_ || made_ < limits::kVsockParked) && descriptors_ + descriptors <= most_descriptors_;
    }
    VsockParked* take(unsigned descriptors) {
        if (!has_room(descriptors)) return nullptr;
        VsockParked* const parked = free_ ? std::exchange(free_, free_->next) : new (at(made_++)) VsockParked;
        descriptors_ += parked->descriptors = descriptors;
        return parked;
    }
    void give_back(VsockParked& parked) {
        descriptors_ -= parked.descriptors;
        parked.next = std::exchange(free_, &parked);
    }

private:
    VsockParked* at(unsigned index) const {
        return static_cast<VsockParked*>(static_cast<void*>(memory_.data())) + index;
    }
    Mapping memory_;
    unsigned made_ = 0;
    unsigned descriptors_ = 0, most_descriptors_ = 0;
    VsockParked* free_ = nullptr;
};

/// Bytes in order, up to a fixed number. Has memory only while it holds any.
class VsockBuffer {
public:
    size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }

    /// Room for `size` bytes at the end, in up to two parts. The whole never exceeds `capacity`, always the same.
    std::array<std::span<std::byte>, 2> grow(size_t size, size_t capacity) {
        CHECK(size_ + size <= capacity);
        if (!bytes_) {
            bytes_.reset(new std::byte[capacity]);
            capacity_ = capacity;
            start_ = 0;
        }
        CHECK(capacity == capacity_);
        const size_t end = (start_ + size_) % capacity_;
        const size_t first = std::min(size, capacity_ - end);
        size_ += size;
        return {std::span(bytes_.get() + end, first), std::span(bytes_.get(), size - first)};
    }
    /// All that it holds, as up to two parts.
    std::array<iovec, 2> parts() const {
        const size_t first = std::min(size_, capacity_ - start_);
        return {iovec{bytes_.get() + start_, first}, iovec{bytes_.get(), size_ - first}};
    }
    void consume(size_t size) {
        CHECK(size <= size_);
        size_ -= size;
        if (size_ == 0) return clear();
        start_ = (start_ + size) % capacity_;
    }
    void clear() {
        bytes_.reset();
        size_ = start_ = capacity_ = 0;
    }

private:
    std::unique_ptr<std::byte[]> bytes_;
    size_t capacity_ = 0, start_ = 0, size_ = 0;
};

class VsockOutbox {
public:
    explicit VsockOutbox(VsockParkedPool& pool) : pool_(pool) {}
    VsockOutbox(const VsockOutbox&) = delete;
    VsockOutbox& operator=(const VsockOutbox&) = delete;
    ~VsockOutbox() { clear(nullptr); }

    bool empty() const { return !first_ && buffer_.empty(); }

    /// Adds a packet's data (with its chain, if it can be parked: then the chain is taken) to the end. Never more than
    /// `grant` bytes in all.
    enum class Put : uint8_t { kParked, kCopied };
    Put put(Chain& chain, std::span<GuestSlice> data, uint32_t grant);

    /// The next bytes as parts of one sendmsg(2), as many as fit. Returns the parts; `size`: their bytes.
    std::span<iovec> next_parts(std::span<iovec> room, size_t& size) const;
    /// The first `size` bytes have gone. Chains whose bytes have all gone are returned to `tx`.
    void consume(size_t size, Queue& tx);
    /// Copies what is parked into the buffer and returns the chains to `tx`: for a pause.
    void unpark(uint32_t grant, Queue& tx);
    /// Drops all data. Chains are returned to `tx`, or given up where that is null: the queue is being reset or broken.
    void clear(Queue* tx);

private:
    VsockParkedPool& pool_;
    VsockParked* first_ = nullptr;  // before the bytes in the buffer
    VsockParked* last_ = nullptr;
    VsockBuffer buffer_;
};

}  // namespace wisp::virtio
