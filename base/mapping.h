// SPDX-License-Identifier: Apache-2.0
//
// Mapping: the owner of one range that mmap(2) made. Its destructor unmaps the range. Threads: any one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "base/result.h"

namespace wisp {

class Mapping {
public:
    Mapping() = default;
    Mapping(void* address, size_t size) : address_(address), size_(size) {}
    Mapping(Mapping&& other) noexcept
        : address_(std::exchange(other.address_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    Mapping& operator=(Mapping&& other) noexcept;
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping();

    /// Private zeroed memory of `size` bytes at a multiple of `alignment` (a power of two, at least a page).
    /// `extra_flags` go to mmap. Huge pages of the pool (MAP_HUGETLB) are reserved; other memory is not
    /// (MAP_NORESERVE).
    static Result<Mapping> anonymous(size_t size, size_t alignment, int extra_flags, const std::string& what);

    /// Maps `size` bytes of a descriptor from `offset`, with mmap's `protection` and `flags`.
    static Result<Mapping> of_fd(int fd, uint64_t offset, size_t size, int protection, int flags,
                                 const std::string& what);
    /// The same at an address that is a multiple of `alignment`, readable and writable. The range may lie behind the
    /// file's end: an access there is a SIGBUS.
    static Result<Mapping> of_fd_aligned(int fd, uint64_t offset, size_t size, size_t alignment, int flags,
                                         const std::string& what);

    std::byte* data() const { return static_cast<std::byte*>(address_); }
    size_t size() const { return size_; }

private:
    void* address_ = nullptr;
    size_t size_ = 0;
};

}  // namespace wisp
