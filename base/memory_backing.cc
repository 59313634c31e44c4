// SPDX-License-Identifier: Apache-2.0
#include "base/memory_backing.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/limits.h"

namespace wisp {

MemoryBacking MemoryBacking::private_file(OwnedFd file, uint64_t offset, std::string path) {
    CHECK(file.valid() && offset % limits::kPageSize == 0);
    MemoryBacking backing(Kind::kPrivateFile);
    backing.file_ = std::move(file);
    backing.offset_ = offset;
    backing.path_ = std::move(path);
    return backing;
}

Result<Mapping> MemoryBacking::map(uint64_t size) {
    const std::string what = format("%lu MiB of guest memory", static_cast<unsigned long>(size >> 20));
    const auto map_kind = [&]() -> Result<Mapping> {
        switch (kind_) {
            case Kind::kAnonymous:
            case Kind::kTransparentHuge:
                return Mapping::anonymous(size, limits::kHugePageSize, 0, what);
            case Kind::kHugeTlb2M:
                return Mapping::anonymous(size, limits::kHugePageSize, MAP_HUGETLB | (21 << MAP_HUGE_SHIFT), what);
            case Kind::kShared:
                return map_shared(size, what);
            case Kind::kPrivateFile:
                return map_private_file(size, what);
        }
        __builtin_unreachable();
    };
    Mapping mapping = TRY(map_kind());
    if (kind_ == Kind::kTransparentHuge && madvise(mapping.data(), size, MADV_HUGEPAGE) < 0)
        return fail_errno("cannot use transparent huge pages for %s", what.c_str());
    // A core dump of the monitor must not hold the guest's secrets, and would take as long as the guest is large.
    madvise(mapping.data(), size, MADV_DONTDUMP);
    return mapping;
}

Result<Mapping> MemoryBacking::map_shared(uint64_t size, const std::string& what) {
    CHECK(!file_.valid());
    file_.reset(memfd_create("guest-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!file_.valid()) return fail_errno("cannot create a memfd for %s", what.c_str());
    if (ftruncate(file_.get(), static_cast<off_t>(size)) < 0)
        return fail_errno("cannot size the memfd for %s", what.c_str());
    // A process that gets the descriptor must not take the pages away: the next access would be a SIGBUS.
    if (fcntl(file_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return fail_errno("cannot seal the memfd for %s", what.c_str());
    return Mapping::of_fd_aligned(file_.get(), 0, size, limits::kHugePageSize, MAP_SHARED | MAP_NORESERVE, what);
}

Result<Mapping> MemoryBacking::map_private_file(uint64_t size, const std::string& what) {
    const uint64_t length = TRY_CONTEXT("guest memory", file_size(file_.get(), path_));
    if (length < offset_ || length - offset_ < size)
        return fail("guest memory: %s has %lu bytes, but %lu from byte %lu on are needed", path_.c_str(),
                    static_cast<unsigned long>(length), static_cast<unsigned long>(size),
                    static_cast<unsigned long>(offset_));
    return Mapping::of_fd_aligned(file_.get(), offset_, size, limits::kHugePageSize, MAP_PRIVATE | MAP_NORESERVE,
                                  what + " from " + path_);
}

}  // namespace wisp
