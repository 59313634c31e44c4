// SPDX-License-Identifier: Apache-2.0
#include "base/mapping.h"

#include <sys/mman.h>

#include "base/check.h"
#include "base/limits.h"

namespace wisp {

Mapping& Mapping::operator=(Mapping&& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(size_, other.size_);
    return *this;
}

Mapping::~Mapping() {
    if (address_) munmap(address_, size_);
}

namespace {

/// mmap(2) of anonymous memory at a multiple of `alignment`. `flags` without MAP_HUGETLB: then mmap aligns to a page
/// only, so this maps more and unmaps both ends.
Result<Mapping> map_aligned(size_t size, size_t alignment, int protection, int flags, const std::string& what) {
    CHECK(alignment >= limits::kPageSize && (alignment & (alignment - 1)) == 0);
    const size_t slack = (flags & MAP_HUGETLB) ? 0 : alignment - limits::kPageSize;
    if (size + slack < size) return fail("cannot map %zu bytes for %s: too large", size, what.c_str());
    void* address = mmap(nullptr, size + slack, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (address == MAP_FAILED) return fail_errno("cannot map %zu MiB for %s", size >> 20, what.c_str());

    const auto start = reinterpret_cast<uintptr_t>(address);
    const uintptr_t aligned = slack ? (start + alignment - 1) & ~(alignment - 1) : start;
    if (aligned > start) munmap(address, aligned - start);
    if (const size_t tail = slack - (aligned - start)) munmap(reinterpret_cast<void*>(aligned + size), tail);
    return Mapping(reinterpret_cast<void*>(aligned), size);
}

}  // namespace

Result<Mapping> Mapping::anonymous(size_t size, size_t alignment, int extra_flags, const std::string& what) {
    // Without a reservation in the pool, the first access to a huge page that the pool no longer has is a SIGBUS.
    const int reservation = extra_flags & MAP_HUGETLB ? 0 : MAP_NORESERVE;
    return map_aligned(size, alignment, PROT_READ | PROT_WRITE, reservation | extra_flags, what);
}

Result<Mapping> Mapping::of_fd(int fd, uint64_t offset, size_t size, int protection, int flags,
                               const std::string& what) {
    void* address = mmap(nullptr, size, protection, flags, fd, static_cast<off_t>(offset));
    if (address == MAP_FAILED) return fail_errno("cannot map %s", what.c_str());
    return Mapping(address, size);
}

Result<Mapping> Mapping::of_fd_aligned(int fd, uint64_t offset, size_t size, size_t alignment, int flags,
                                       const std::string& what) {
    // The reservation gives the address; the file's pages then replace it.
    Mapping mapping = TRY(map_aligned(size, alignment, PROT_NONE, MAP_NORESERVE, what));
    if (mmap(mapping.data(), size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, static_cast<off_t>(offset)) ==
        MAP_FAILED)
        return fail_errno("cannot map %s", what.c_str());
    return mapping;
}

}  // namespace wisp
