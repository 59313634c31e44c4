// SPDX-License-Identifier: Apache-2.0
//
// Guest memory as everything but KVM sees it: bytes that the guest may change at any moment, from any thread.
// No function here returns a reference or a span to these bytes. They are copied, once, with volatile accesses (read,
// load), or named by a slice, which goes to the kernel as an iovec. Each access is checked against one region, with
// arithmetic that cannot wrap.
//
// The monitor writes to guest memory through a WritableSlice only, and GuestMemory::writable() is where they come from.
// It marks the pages in DirtyPages while writes are tracked. So the pages that differ from a snapshot are those in
// KVM's dirty log and those that are marked.
//
// Threads: a GuestMemory does not change after it is built and may be used from any thread. track_writes() and
// take_written_pages() need everything that writes to be stopped: no vCPU runs, no device has a chain in hand.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "base/dirty_pages.h"
#include "base/mapping.h"
#include "base/memory_backing.h"
#include "base/result.h"

namespace wisp {

/// A guest physical address.
struct GuestAddress {
    uint64_t value = 0;
    auto operator<=>(const GuestAddress&) const = default;
    /// This address plus `offset`, or nothing if that wraps.
    std::optional<GuestAddress> plus(uint64_t offset) const {
        uint64_t sum;
        if (__builtin_add_overflow(value, offset, &sum)) return std::nullopt;
        return GuestAddress{sum};
    }
};

/// Copies `size` bytes out of memory that others may change; each byte is read exactly once.
void copy_from_shared(void* to, const volatile void* from, size_t size);
/// Copies `size` bytes into memory that others may read or change.
void copy_to_shared(volatile void* to, const void* from, size_t size);

/// A checked range of guest memory in one region, to be read. Its bytes are reached by copy only, or by the kernel as
/// an iovec.
class GuestSlice {
public:
    GuestSlice() = default;
    GuestSlice(void* host, size_t size) : host_(host), size_(size) {}

    size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    /// The part from `offset`, at most `size` bytes; both are cut to what there is.
    GuestSlice part(size_t offset, size_t size = SIZE_MAX) const {
        if (offset > size_) offset = size_;
        if (size > size_ - offset) size = size_ - offset;
        return {static_cast<std::byte*>(host_) + offset, size};
    }
    /// Copies as many bytes as both hold; returns how many.
    size_t copy_to(std::span<std::byte> to) const {
        const size_t size = to.size() < size_ ? to.size() : size_;
        copy_from_shared(to.data(), host_, size);
        return size;
    }
    /// Host address, for system calls and alignment checks; never dereferenced. A system call that writes to guest
    /// memory takes a WritableSlice's.
    void* host_address() const { return host_; }
    iovec as_iovec() const { return {host_, size_}; }

protected:
    // Laid out as struct iovec, so that an array of slices is an iovec array for readv and writev.
    void* host_ = nullptr;
    size_t size_ = 0;
};

/// A slice that may be written to. Its pages are marked as written when it is made, before the first write.
class WritableSlice : public GuestSlice {
public:
    WritableSlice() = default;
    /// Memory that is not a guest's, or whose pages are marked already.
    static WritableSlice over(void* host, size_t size) { return {host, size}; }

    WritableSlice part(size_t offset, size_t size = SIZE_MAX) const {
        const GuestSlice cut = GuestSlice::part(offset, size);
        return {cut.host_address(), cut.size()};
    }
    /// Copies as many bytes as both hold; returns how many.
    size_t copy_from(std::span<const std::byte> from) const {
        const size_t size = from.size() < size_ ? from.size() : size_;
        copy_to_shared(host_, from.data(), size);
        return size;
    }

private:
    friend class GuestMemory;
    WritableSlice(void* host, size_t size) : GuestSlice(host, size) {}
};

static_assert(sizeof(GuestSlice) == sizeof(iovec) && std::is_standard_layout_v<GuestSlice>);
static_assert(sizeof(WritableSlice) == sizeof(iovec) && std::is_standard_layout_v<WritableSlice>);

inline const iovec* as_iovecs(std::span<const GuestSlice> slices) {
    return reinterpret_cast<const iovec*>(slices.data());
}

/// Slices to write to, as what can be read and what names them to the kernel.
inline std::span<GuestSlice> as_slices(std::span<WritableSlice> slices) {
    return {static_cast<GuestSlice*>(slices.data()), slices.size()};
}
/// Slices that are stored as GuestSlice and were made as WritableSlice: the writable segments of a chain.
inline std::span<WritableSlice> as_writable(std::span<GuestSlice> slices) {
    return {static_cast<WritableSlice*>(slices.data()), slices.size()};
}

/// One contiguous range of guest physical memory and where it is mapped in this process.
struct GuestRegion {
    GuestAddress start;
    uint64_t size = 0;                ///< bytes, a multiple of the page size
    const std::byte* host = nullptr;  ///< for KVM's memory slots, and to read

    uint64_t end() const { return start.value + size; }
};

class GuestMemory {
public:
    struct Range {
        GuestAddress start;
        uint64_t size;
    };

    GuestMemory() = default;
    /// Maps all ranges (ascending, not overlapping, page-aligned) as one host mapping of `backing`, in their order and
    /// without gaps. A private file's content has the same layout.
    static Result<GuestMemory> create(std::span<const Range> ranges, MemoryBacking backing);

    std::span<const GuestRegion> regions() const { return regions_; }
    /// Bytes of RAM in all regions.
    uint64_t total_size() const { return mapping_.size(); }
    /// The first address after the last region.
    GuestAddress end() const { return {regions_.empty() ? 0 : regions_.back().end()}; }
    const MemoryBacking& backing() const { return backing_; }

    /// True where every byte of the range lies in one region. An empty range at a region's end does.
    bool contains(GuestAddress address, uint64_t size) const { return host_range(address, size) != nullptr; }
    /// Host address of a range in one region, for atomic and volatile reads, or null.
    const std::byte* host_range(GuestAddress address, uint64_t size) const { return find(address, size); }
    /// The range as a slice, or nothing where any byte of it lies outside one region. An empty range is empty.
    std::optional<GuestSlice> slice(GuestAddress address, uint64_t size) const;
    /// The same to write to. Marks its pages as written.
    std::optional<WritableSlice> writable(GuestAddress address, uint64_t size) const;

    /// Copies out or in; false, with nothing copied, where the range is not in one region.
    [[nodiscard]] bool read(GuestAddress address, std::span<std::byte> to) const;
    [[nodiscard]] bool write(GuestAddress address, std::span<const std::byte> from) const;

    /// One wire structure, copied once.
    template <class T>
        requires std::is_trivially_copyable_v<T>
    std::optional<T> load(GuestAddress address) const {
        T value;
        if (!read(address, std::as_writable_bytes(std::span(&value, 1)))) return std::nullopt;
        return value;
    }
    template <class T>
        requires std::is_trivially_copyable_v<T>
    [[nodiscard]] bool store(GuestAddress address, const T& value) const {
        return write(address, std::as_bytes(std::span(&value, 1)));
    }

    /// From now on, marks pages before the monitor writes to them.
    void track_writes();
    bool tracks_writes() const { return dirty_ != nullptr; }
    /// Clears the marks of one region, and sets a bit in `log` for each page that was marked: to be merged with the
    /// region's log of KVM_GET_DIRTY_LOG. Writes are tracked.
    void take_written_pages(size_t region, std::span<uint64_t> log) const;

private:
    std::byte* find(GuestAddress address, uint64_t size) const;
    void mark(const std::byte* host, uint64_t size) const;

    MemoryBacking backing_ = MemoryBacking::anonymous();
    Mapping mapping_;
    std::vector<GuestRegion> regions_;
    std::unique_ptr<DirtyPages> dirty_;  // by page of mapping_; null: writes are not tracked
};

}  // namespace wisp
