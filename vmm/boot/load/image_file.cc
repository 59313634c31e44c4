// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/load/image_file.h"

#include <cstring>

#include "base/check.h"
#include "base/fd.h"
#include "vmm/boot/load/place.h"

namespace wisp::boot {

Result<ImageFile> ImageFile::open(const GuestMemory& memory, int fd, const std::string& path) {
    ImageFile file;
    file.memory_ = &memory;
    file.fd_ = fd;
    file.path_ = &path;
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
    // The range lies in the file as it was when it was opened, so a short read means that the file was truncated since.
    if (got < to.size()) return refuse("the file became shorter while its %s were read", what);
    return {};
}

Result<void> ImageFile::copy_to_guest(uint64_t offset, uint64_t size, GuestAddress address) const {
    CHECK(contains(offset, size));
    if (size == 0) return {};
    const size_t got = TRY_CONTEXT("kernel image", read_into_guest(*memory_, address, fd_, offset, size, *path_));
    if (got < size) return refuse("the file became shorter while it was loaded");
    return {};
}

}  // namespace wisp::boot
