// SPDX-License-Identifier: Apache-2.0
//
// MemoryBacking: the choice of host memory behind guest RAM, made once, before the memory is mapped.
//
// Threads: any one at a time.
#pragma once

#include <cstdint>
#include <string>

#include "base/fd.h"
#include "base/mapping.h"
#include "base/result.h"

namespace wisp {

class MemoryBacking {
public:
    enum class Kind : uint8_t {
        kAnonymous,        ///< private zeroed pages of the host's usual size
        kTransparentHuge,  ///< the same, and the kernel is asked for huge pages (MADV_HUGEPAGE)
        kHugeTlb2M,        ///< pages of 2 MiB, reserved in the host's pool when they are mapped (MAP_HUGETLB)
        kShared,           ///< a memfd of its own: a process that gets its descriptor shares the memory
        kPrivateFile,      ///< a file's content, copy-on-write: what the guest writes does not reach the file
    };

    static MemoryBacking anonymous() { return MemoryBacking(Kind::kAnonymous); }
    static MemoryBacking transparent_huge() { return MemoryBacking(Kind::kTransparentHuge); }
    static MemoryBacking huge_tlb_2m() { return MemoryBacking(Kind::kHugeTlb2M); }
    static MemoryBacking shared() { return MemoryBacking(Kind::kShared); }
    /// The file that `file` is open on for reading, from byte `offset`, a multiple of the page size. The file must not
    /// become shorter while it is mapped: an access behind its end is a SIGBUS. `path` is for messages.
    static MemoryBacking private_file(OwnedFd file, uint64_t offset, std::string path);

    Kind kind() const { return kind_; }
    /// The memfd (once mapped) or the file; -1 for memory that has none.
    int fd() const { return file_.get(); }

    /// Maps `size` bytes, a multiple of the page size (of 2 MiB for kHugeTlb2M), at an address that is a multiple of
    /// 2 MiB, so that huge pages of the host coincide with the guest's. The pages are readable and writable and stay
    /// out of core dumps. An error says what the host lacks, or that the file is too short.
    Result<Mapping> map(uint64_t size);

private:
    explicit MemoryBacking(Kind kind) : kind_(kind) {}
    Result<Mapping> map_shared(uint64_t size, const std::string& what);
    Result<Mapping> map_private_file(uint64_t size, const std::string& what);

    Kind kind_;
    OwnedFd file_;
    uint64_t offset_ = 0;  // bytes into the file
    std::string path_;
};

}  // namespace wisp
