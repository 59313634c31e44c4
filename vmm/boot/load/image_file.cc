// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/load/image_file.h"

#include <sys/mman.h>

#include <cstring>

#include "base/check.h"
#include "base/fd.h"
#include "vmm/boot/load/place.h"

namespace wisp::boot {

Result<ImageFile> ImageFile::open(const GuestMemory& memory, int fd, const std::string& path, KernelMapping mapping) {
    ImageFile file;
    file.memory_ = &memory;
    file.fd_ = fd;
    file.path_ = &path;
    file.mapping_ = mapping;
    file.size_ = TRY_CONTEXT("kernel image", file_size(fd, path));
    file.head_size_ = TRY_CONTEXT("kernel image", read_at(fd, file.head_.data(), file.head_.size(), 0, path));
    if (file.head_size_ == 0) return file.refuse("the file is empty");
    return file;
}

Result<void> ImageFile::read(uint64_t offset, std::span<std::byte> to, const char* what) const {
    CHECK(contains(offset, to.size()));
    if (offset + to.size() <= head_size_) {
        memcpy(to.data(), head_.data() + offset, to.size());
        return {};
    }
    const size_t got = TRY_CONTEXT("kernel image", read_at(fd_, to.data(), to.size(), offset, *path_));
    // The length was checked: a short read is a file that is being cut while it is read.
    if (got < to.size()) return refuse("the file became shorter while its %s were read", what);
    return {};
}

Result<void> ImageFile::move_to_guest(uint64_t offset, uint64_t size, GuestAddress address, Use use) {
    CHECK(contains(offset, size));
    const uint64_t first = align_up(address.value, limits::kPageSize);
    const uint64_t last = align_down(address.value + size, limits::kPageSize);
    const bool aligned = (address.value - offset) % limits::kPageSize == 0;
    if (mapping_ != KernelMapping::kMap || use == Use::kWritten || !aligned || first >= last ||
        !map_to_guest(offset + (first - address.value), last - first, {first}))
        return copy_to_guest(offset, size, address);

    // The pages at both ends hold other bytes too, or zeros that the file does not have: only their part is copied.
    TRY(copy_to_guest(offset, first - address.value, address));
    const uint64_t tail = address.value + size - last;
    return copy_to_guest(offset + size - tail, tail, {last});
}

Result<void> ImageFile::copy_to_guest(uint64_t offset, uint64_t size, GuestAddress address) const {
    if (size == 0) return {};
    std::byte* host = memory_->host_range(address, size);
    CHECK(host);
    // Straight from the page cache into guest memory: the vCPUs do not run yet, and the bytes are not looked at here.
    const size_t got = TRY_CONTEXT("kernel image", read_at(fd_, host, size, offset, *path_));
    if (got < size) return refuse("the file became shorter while it was loaded");
    return {};
}

bool ImageFile::map_to_guest(uint64_t offset, uint64_t size, GuestAddress address) {
    std::byte* host = memory_->host_range(address, size);
    CHECK(host);
    // Private: what the guest writes there goes to a copy of the page, never to the file.
    void* got = mmap(host, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd_,
                     static_cast<off_t>(offset));
    if (got == MAP_FAILED) return false;
    madvise(host, size, MADV_DONTDUMP);  // as all of guest memory
    mapped_.push_back({address, size});
    return true;
}

}  // namespace wisp::boot
