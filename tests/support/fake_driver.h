// SPDX-License-Identifier: Apache-2.0
//
// A driver for tests: it lays out one virtqueue in guest memory, builds descriptor chains (right and wrong ones), makes
// them available and collects what comes back. It writes guest memory exactly as told, so every fault can be built.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/guest_memory.h"
#include "virtio/device.h"
#include "virtio/queue.h"

namespace wisp::test {

/// 16 MiB of guest memory at 0 and 1 MiB above a hole.
GuestMemory make_memory();

class FakeDriver;

/// Builds one chain, descriptor by descriptor: driver.chain().readable("header").writable(512).submit().
class ChainBuilder {
public:
    explicit ChainBuilder(FakeDriver& driver) : driver_(driver) {}

    ChainBuilder& readable(std::string_view bytes);  ///< a new buffer with these bytes
    ChainBuilder& readable(const void* bytes, size_t size);
    ChainBuilder& writable(uint32_t size);  ///< a new buffer, filled with 0xee
    ChainBuilder& descriptor(uint64_t address, uint32_t length,
                             uint16_t flags);  ///< as it is; NEXT is added where one follows
    /// Puts the descriptors from here on into an indirect table.
    ChainBuilder& indirect();

    /// Writes the chain to the table and makes it available. Returns its head.
    uint16_t submit();
    /// Addresses of the buffers so far.
    uint64_t address(size_t index) const { return descriptors_[index].address; }
    uint64_t last_address() const { return descriptors_.back().address; }

private:
    struct Described {
        uint64_t address;
        uint32_t length;
        uint16_t flags;
    };
    FakeDriver& driver_;
    std::vector<Described> descriptors_;
    std::optional<size_t> indirect_from_;
};

class FakeDriver {
public:
    FakeDriver(const GuestMemory& memory, uint16_t size, uint64_t base = 0x10000);

    virtio::QueueState layout() const { return layout_; }
    ChainBuilder chain() { return ChainBuilder(*this); }

    struct Used {
        uint16_t head;
        uint32_t written;
    };
    /// The next used element, if there is one.
    std::optional<Used> used();
    uint16_t used_index() const;

    // The rings, raw.
    void write_descriptor(uint16_t index, uint64_t address, uint32_t length, uint16_t flags, uint16_t next);
    void make_available(uint16_t head);
    void set_available_index(uint16_t index);
    uint16_t available_index() const { return available_index_; }
    void set_available_flags(uint16_t flags);
    void set_used_event(uint16_t index);
    uint16_t used_flags() const;
    uint16_t available_event() const;

    /// `size` bytes of guest memory that nothing else uses until recycle().
    uint64_t allocate(uint64_t size);
    /// Descriptors and buffers are free again: for when nothing is in flight.
    void recycle();
    /// As after a reset: the rings are empty.
    void restart();
    uint16_t take_descriptor();
    /// What that will be.
    uint16_t next_descriptor() const { return next_descriptor_ & static_cast<uint16_t>(layout_.size - 1); }

    const GuestMemory& memory;
    std::string bytes(uint64_t address, size_t size) const;

private:
    virtio::QueueState layout_;
    uint16_t available_index_ = 0;
    uint16_t used_seen_ = 0;
    uint16_t next_descriptor_ = 0;
    uint64_t heap_;
    uint64_t heap_start_;
};

}  // namespace wisp::test
