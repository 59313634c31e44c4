// SPDX-License-Identifier: Apache-2.0
//
// ImageFile: a kernel image on its way into guest memory. It knows the file's length, has its first page at hand, and
// moves byte ranges from file to guest by mapping or copying. Internal to vmm/boot.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/guest_memory.h"
#include "base/limits.h"
#include "base/result.h"
#include "vmm/boot/load/kernel.h"

namespace wisp::boot {

class ImageFile {
public:
    /// Reads the length and the first page. `fd` and `path` are only used, and must outlive it.
    static Result<ImageFile> open(const GuestMemory& memory, int fd, const std::string& path, KernelMapping mapping);

    const GuestMemory& memory() const { return *memory_; }
    uint64_t size() const { return size_; }
    /// The first page of the file, or all of it where it is shorter.
    std::span<const std::byte> head() const { return std::span(head_).first(head_size_); }

    /// True where [offset, offset + size) lies in the file.
    bool contains(uint64_t offset, uint64_t size) const { return offset <= size_ && size <= size_ - offset; }

    /// Copies a range of the file that lies in it. `what` is for the error.
    Result<void> read(uint64_t offset, std::span<std::byte> to, const char* what) const;

    /// What the guest does with a part of the image. What it writes to is copied even where the rest is mapped.
    enum class Use { kRead, kWritten };
    /// Brings [offset, offset + size) of the file, which lies in it, to `address`, where there is RAM for it.
    Result<void> move_to_guest(uint64_t offset, uint64_t size, GuestAddress address, Use use);

    /// What move_to_guest() has mapped so far.
    std::vector<MappedRange> take_mapped() { return std::move(mapped_); }

    /// An error about this image: "kernel image <path>: <reason>".
    template <class... Args>
    [[nodiscard]] std::unexpected<Error> refuse(const char* pattern, Args... args) const {
        Error error = fail(pattern, args...).error();
        return std::unexpected(std::move(error).with_context("kernel image " + *path_));
    }

private:
    Result<void> copy_to_guest(uint64_t offset, uint64_t size, GuestAddress address) const;
    bool map_to_guest(uint64_t offset, uint64_t size, GuestAddress address);

    const GuestMemory* memory_ = nullptr;
    int fd_ = -1;
    const std::string* path_ = nullptr;
    KernelMapping mapping_ = KernelMapping::kCopy;
    uint64_t size_ = 0;
    size_t head_size_ = 0;
    std::array<std::byte, limits::kPageSize> head_;
    std::vector<MappedRange> mapped_;
};

}  // namespace wisp::boot
