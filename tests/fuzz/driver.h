// SPDX-License-Identifier: Apache-2.0
//
// A driver of one virtqueue that does what the input says: sound chains, senseless ones, and bytes anywhere in memory.
#pragma once

#include <algorithm>

#include "tests/fuzz/fuzz.h"
#include "virtio/device.h"
#include "virtio/queue.h"

namespace wisp::fuzz {

/// Rings of 32 entries from `base` on, an indirect table behind them: three pages.
class Driver {
public:
    static constexpr uint16_t kSize = 32;
    static constexpr uint64_t kAvailable = 0x800, kUsed = 0xc00, kTable = 0x1000, kBytes = 0x3000;
    static constexpr unsigned kMostSegments = 16;

    Driver(std::byte* memory, uint64_t memory_size, uint64_t base)
        : memory_(memory), memory_size_(memory_size), base_(base) {}

    virtio::QueueState layout() const { return {kSize, {base_}, {base_ + kAvailable}, {base_ + kUsed}, 0, 0}; }
    /// As after a reset of the device.
    void restart() {
        memset(memory_ + base_, 0, kBytes);
        available_ = next_ = seen_ = 0;
    }

    struct Descriptor {
        uint64_t address;
        uint32_t length;
        uint16_t flags, next;
    };
    void set(uint64_t table, unsigned index, const Descriptor& descriptor) {
        store(table + index * sizeof descriptor, descriptor);
    }
    void make_available(uint16_t head) {
        store(base_ + kAvailable + 4 + available_ % kSize * 2u, head);
        store(base_ + kAvailable + 2, ++available_);
    }

    /// `size` bytes at `address` in segments of `cut` bytes, one chain.
    void submit(uint64_t address, uint64_t size, uint64_t cut, bool writable) {
        const uint64_t least = size / kMostSegments + 1;
        cut = std::max(cut, least);
        const uint16_t head = next_;
        do {
            const uint64_t part = std::min(size, cut);
            const uint16_t index = next_;
            next_ = static_cast<uint16_t>((next_ + 1) % kSize);
            size -= part;
            const auto flags = static_cast<uint16_t>((size > 0 ? 1 : 0) | (writable ? 2 : 0));
            set(base_, index, {address, static_cast<uint32_t>(part), flags, next_});
            address += part;
        } while (size > 0);
        make_available(head);
    }

    /// A chain whose every field is the input's, perhaps in an indirect table.
    void submit_any(Input& input) {
        const auto shape = input.take<uint8_t>();
        const unsigned count = shape % kMostSegments + 1;
        const bool indirect = shape & 0x80;
        const uint16_t head = next_;
        for (unsigned i = 0; i < count; ++i) {
            Descriptor descriptor{};
            descriptor.address = shape & 0x40 ? input.take<uint64_t>() : input.take<uint32_t>() % memory_size_;
            descriptor.length = shape & 0x20 ? input.take<uint32_t>() : input.take<uint16_t>();
            descriptor.flags = input.take<uint8_t>() % 8;
            const auto at = static_cast<uint16_t>(indirect ? i : next_);
            descriptor.next = descriptor.flags & 4 ? input.take<uint16_t>() : static_cast<uint16_t>((at + 1) % kSize);
            set(indirect ? base_ + kTable : base_, at, descriptor);
            if (!indirect) next_ = static_cast<uint16_t>((next_ + 1) % kSize);
        }
        if (indirect) {
            set(base_, head, {base_ + kTable, count * 16, 4, 0});
            next_ = static_cast<uint16_t>((next_ + 1) % kSize);
        }
        make_available(head);
    }

    struct Used {
        uint32_t head, written;
    };
    /// The next used element, if there is one. Takes the device's word for nothing: the input may have written there.
    bool take_used(Used& used) {
        uint16_t index;
        memcpy(&index, memory_ + base_ + kUsed + 2, sizeof index);
        if (index == seen_) return false;
        memcpy(&used, memory_ + base_ + kUsed + 4 + seen_ % kSize * sizeof used, sizeof used);
        ++seen_;
        return true;
    }

private:
    template <class T>
    void store(uint64_t address, const T& value) {
        CHECK(address + sizeof value <= memory_size_);
        memcpy(memory_ + address, &value, sizeof value);
    }

    std::byte* const memory_;
    const uint64_t memory_size_, base_;
    uint16_t available_ = 0, next_ = 0, seen_ = 0;
};

/// A transport for devices under test.
class Transport final : public virtio::Interrupt {
public:
    void signal_used() override {}
    void change_config(const std::function<void()>& change) override { change(); }
    void signal_needs_reset(const char*) override { broken = true; }
    bool broken = false;
};

}  // namespace wisp::fuzz
