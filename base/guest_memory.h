// SPDX-License-Identifier: Apache-2.0
//
// Guest memory as everything but KVM sees it: bytes that the guest may change at any moment, from any thread.
// So nothing here hands out a reference or span to them. They are copied, once, with volatile accesses (read, load), or
// named by a GuestSlice that goes to the kernel as an iovec. Each access is checked against one region, with arithmetic
// that cannot wrap.
//
// Threads: a GuestMemory does not change after it is built and may be used from any thread.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "base/mapping.h"
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

/// A checked range of guest memory in one region. Its bytes are reached by copy only, or by the kernel as an iovec.
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
    size_t copy_from(std::span<const std::byte> from) const {
        const size_t size = from.size() < size_ ? from.size() : size_;
        copy_to_shared(host_, from.data(), size);
        return size;
    }
    /// Host address: for system calls and for alignment checks, never to be dereferenced.
    void* host_address() const { return host_; }
    iovec as_iovec() const { return {host_, size_}; }

private:
    // Laid out as struct iovec, so that an array of slices is an iovec array for readv and writev.
    void* host_ = nullptr;
    size_t size_ = 0;
};

static_assert(sizeof(GuestSlice) == sizeof(iovec) && std::is_standard_layout_v<GuestSlice>);

inline const iovec* as_iovecs(std::span<const GuestSlice> slices) {
    return reinterpret_cast<const iovec*>(slices.data());
}

/// One contiguous range of guest physical memory and where it is mapped here.
struct GuestRegion {
    GuestAddress start;
    uint64_t size = 0;  ///< bytes, a multiple of the page size
    std::byte* host = nullptr;

    uint64_t end() const { return start.value + size; }
};

class GuestMemory {
public:
    /// What each region of the guest's RAM is backed by (machine-config `huge_pages`).
    enum class Pages { kNormal, kTransparentHuge, kHugeTlb2M };
    struct Range {
        GuestAddress start;
        uint64_t size;
    };

    GuestMemory() = default;
    /// Maps all ranges (ascending, not overlapping, page-aligned) as private zeroed memory. Regions lie in one host
    /// mapping whose huge pages coincide with the guest's.
    static Result<GuestMemory> create(std::span<const Range> ranges, Pages pages);

    std::span<const GuestRegion> regions() const { return regions_; }
    /// Bytes of RAM in all regions.
    uint64_t total_size() const { return mapping_.size(); }
    /// The first address after the last region.
    GuestAddress end() const { return {regions_.empty() ? 0 : regions_.back().end()}; }

    /// The range as a slice, or nothing where any byte of it lies outside one region. An empty range is empty.
    std::optional<GuestSlice> slice(GuestAddress address, uint64_t size) const;

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

    /// Host address of a range for the calls that need it as such (KVM memory slots, mmap over it), or null.
    std::byte* host_range(GuestAddress address, uint64_t size) const;

private:
    Mapping mapping_;
    std::vector<GuestRegion> regions_;
};

}  // namespace wisp
