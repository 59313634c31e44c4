// SPDX-License-Identifier: Apache-2.0
//
// Reader and Writer: a chain's segments as one run of bytes, wherever the driver has cut them (virtio 1.2, section
// 2.7.4.1: a device makes no assumption about where a header ends and a segment begins).
//
// Both consume the segments in place: the slices lose the bytes that were passed, so the remaining slices are the iovec
// of a transfer. Threads: the loop's, within one request. Trust: the bytes are the guest's.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>

#include "base/guest_memory.h"

namespace wisp::virtio {

/// Bytes in all slices.
template <class Slices>
uint64_t total_size(const Slices& slices) {
    uint64_t size = 0;
    for (const GuestSlice& slice : slices) size += slice.size();
    return size;
}

/// `Slice`: GuestSlice or WritableSlice.
template <class Slice>
class SliceCursor {
public:
    explicit SliceCursor(std::span<Slice> slices) : slices_(slices) {}

    uint64_t remaining() const { return total_size(slices_); }
    /// The bytes that have not been passed.
    std::span<Slice> rest() const { return slices_; }

    /// Passes `size` bytes, or all there are.
    void skip(uint64_t size) {
        while (size > 0 && !slices_.empty()) size -= pass(size);
    }
    /// Cuts the last byte off the end and returns it as a slice (empty if there is none): the place of a status byte.
    Slice take_last_byte() {
        while (!slices_.empty() && slices_.back().empty()) slices_ = slices_.first(slices_.size() - 1);
        if (slices_.empty()) return {};
        Slice& last = slices_.back();
        const Slice byte = last.part(last.size() - 1);
        last = last.part(0, last.size() - 1);
        if (last.empty()) slices_ = slices_.first(slices_.size() - 1);
        return byte;
    }

protected:
    // Passes at most `size` bytes of the first slice; returns how many.
    size_t pass(uint64_t size) {
        Slice& front = slices_.front();
        const auto passed = static_cast<size_t>(std::min<uint64_t>(size, front.size()));
        front = front.part(passed);
        if (front.empty()) slices_ = slices_.subspan(1);
        return passed;
    }

    std::span<Slice> slices_;
};

class Reader : public SliceCursor<GuestSlice> {
public:
    using SliceCursor<GuestSlice>::SliceCursor;

    /// Copies out as many bytes as both hold; returns how many.
    size_t read_some(std::span<std::byte> to) {
        size_t done = 0;
        while (done < to.size() && !slices_.empty()) {
            const size_t copied = slices_.front().copy_to(to.subspan(done));
            pass(copied);
            done += copied;
        }
        return done;
    }
    /// One wire structure, or nothing where fewer bytes are left (which are then passed).
    template <class T>
        requires std::is_trivially_copyable_v<T>
    std::optional<T> read() {
        T value;
        if (read_some(std::as_writable_bytes(std::span(&value, 1))) < sizeof value) return std::nullopt;
        return value;
    }
};

class Writer : public SliceCursor<WritableSlice> {
public:
    using SliceCursor<WritableSlice>::SliceCursor;

    /// Copies in as many bytes as both hold; returns how many.
    size_t write_some(std::span<const std::byte> from) {
        size_t done = 0;
        while (done < from.size() && !slices_.empty()) {
            const size_t copied = slices_.front().copy_from(from.subspan(done));
            pass(copied);
            done += copied;
        }
        return done;
    }
    /// One wire structure; false where fewer bytes are left (which are then filled).
    template <class T>
        requires std::is_trivially_copyable_v<T>
    [[nodiscard]] bool write(const T& value) {
        return write_some(std::as_bytes(std::span(&value, 1))) == sizeof value;
    }
};

}  // namespace wisp::virtio
