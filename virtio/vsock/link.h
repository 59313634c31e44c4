// SPDX-License-Identifier: Apache-2.0
//
// What a vsock device keeps of one connection: its state, its socket, and the guest's data that waits for its reader.
// Loop thread.
#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>

#include "base/mapping.h"
#include "virtio/vsock/connection.h"
#include "virtio/vsock/device.h"

namespace wisp::virtio {

/// A packet that waits in guest memory, still owned by us.
struct Vsock::Parked {
    Chain chain;
    std::span<GuestSlice> data;  // of `segments`; used up from the front
    unsigned descriptors = 0;    // of the queue that it occupies, at most
    Parked* next = nullptr;      // in its link's queue, or in the pool's free list
    std::array<GuestSlice, limits::kVsockParkedSegments> segments;
};

/// Memory for all that are parked, so that none is allocated while the VM runs. Touched as it is used.
class Vsock::ParkedPool {
public:
    static Result<std::unique_ptr<ParkedPool>> create() {
        std::unique_ptr<ParkedPool> pool(new ParkedPool);
        pool->memory_ = TRY(Mapping::anonymous(limits::kVsockParked * sizeof(Parked), limits::kPageSize, 0,
                                               "the packets of a vsock device"));
        return pool;
    }
    ~ParkedPool() {
        for (unsigned i = 0; i < made_; ++i) at(i)->~Parked();
    }
    /// Most descriptors of the guest's queue that all may occupy: the others stay for connections whose readers read.
    void set_descriptors(unsigned most) { most_descriptors_ = most; }
    bool has_room(unsigned descriptors) const {
        return (free_ || made_ < limits::kVsockParked) && descriptors_ + descriptors <= most_descriptors_;
    }
    Parked* take(unsigned descriptors) {
        if (!has_room(descriptors)) return nullptr;
        Parked* const parked = free_ ? std::exchange(free_, free_->next) : new (at(made_++)) Parked;
        descriptors_ += parked->descriptors = descriptors;
        return parked;
    }
    void give_back(Parked& parked) {
        descriptors_ -= parked.descriptors;
        parked.next = std::exchange(free_, &parked);
    }

private:
    Parked* at(unsigned index) const { return static_cast<Parked*>(static_cast<void*>(memory_.data())) + index; }
    Mapping memory_;
    unsigned made_ = 0;
    unsigned descriptors_ = 0, most_descriptors_ = 0;
    Parked* free_ = nullptr;
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

struct Vsock::Link final : ListNode<Link, Vsock::Work>,
                           ListNode<Link, Vsock::Dirty>,
                           ListNode<Link, Vsock::Retry>,
                           ListNode<Link, Vsock::Gone> {
    uint16_t slot = 0;
    uint32_t generation = 0;  // tells events of this link from those of its slot's last one
    OwnedFd fd;
    VsockPorts ports;
    bool mapped = false;                        // by_ports_ has it
    std::optional<VsockConnection> connection;  // none until the CONNECT line has come
    std::array<char, limits::kVsockConnectLine> line{};
    size_t line_size = 0;
    std::string_view early;  // of `line`: what came behind the CONNECT line, for the guest
    uint32_t credit = 0;     // taken of the total, beyond the least

    bool readable = false;
    bool ending = false;  // an end waits behind the data: no event will tell again
    bool writable = true;
    uint32_t expected = 4096;  // bytes that the next read may bring

    Parked* first_parked = nullptr;  // before what is in the buffer
    Parked* last_parked = nullptr;
    VsockBuffer buffer;

    VsockConnection::Timeout timeout = VsockConnection::Timeout::kNone;
    uint64_t deadline_ns = 0;  // 0: none

    bool has_data() const { return first_parked || !buffer.empty(); }
    uint64_t event_data() const { return static_cast<uint64_t>(generation) << 32 | slot; }
};

}  // namespace wisp::virtio
