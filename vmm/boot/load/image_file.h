// SPDX-License-Identifier: Apache-2.0
//
// ImageFile: an open kernel image. It holds the file's length and its first page, and copies byte ranges of the file to
// the loader or into guest memory. Internal to vmm/boot.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/guest_memory.h"
#include "base/limits.h"
#include "base/result.h"

namespace wisp::boot {

class ImageFile {
public:
    /// Reads the length and the first page. `fd` and `path` are only used, and must outlive it.
    static Result<ImageFile> open(const GuestMemory& memory, int fd, const std::string& path);

    const GuestMemory& memory() const { return *memory_; }
    uint64_t size() const { return size_; }
    /// The first page of the file, or all of it where it is shorter.
    std::span<const std::byte> head() const { return std::span(head_).first(head_size_); }

    /// True where [offset, offset + size) lies in the file.
    bool contains(uint64_t offset, uint64_t size) const { return offset <= size_ && size <= size_ - offset; }

    /// Copies a range that lies in the file to `to`. `what` names it in the error.
    Result<void> read(uint64_t offset, std::span<std::byte> to, const char* what) const;

    /// Copies [offset, offset + size) of the file to `address`. The caller has checked that the range lies in the file
    /// and that there is RAM at `address`.
    Result<void> copy_to_guest(uint64_t offset, uint64_t size, GuestAddress address) const;

    /// An error about this image: "kernel image <path>: <reason>".
    template <class... Args>
    [[nodiscard]] std::unexpected<Error> refuse(const char* pattern, Args... args) const {
        Error error = fail(pattern, args...).error();
        return std::unexpected(std::move(error).with_context("kernel image " + *path_));
    }

private:
    const GuestMemory* memory_ = nullptr;
    int fd_ = -1;
    const std::string* path_ = nullptr;
    uint64_t size_ = 0;
    size_t head_size_ = 0;
    std::array<std::byte, limits::kPageSize> head_;
};

}  // namespace wisp::boot
