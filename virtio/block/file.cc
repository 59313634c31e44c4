// SPDX-License-Identifier: Apache-2.0
#include "virtio/block/file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/virtio_blk.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "base/limits.h"
#include "base/log.h"
#include "virtio/block/request.h"

namespace wisp::virtio {

namespace {

// Opens without waiting: a FIFO may have taken the drive's place, and to open one waits for its other end.
Result<OwnedFd> open_without_waiting(const std::string& path, int flags) {
    int fd;
    do {
        fd = ::open(path.c_str(), flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0 && errno == EISDIR) return fail("%s is neither a regular file nor a block device", path.c_str());
    if (fd < 0) return fail_errno("cannot use %s", path.c_str());
    return OwnedFd(fd);
}

// What was opened must be a file; transfers on it may wait again. With O_NONBLOCK, io_uring would refuse what it cannot
// do at once.
Result<struct stat> check_file(const OwnedFd& fd, const std::string& path, int flags) {
    struct stat info{};
    if (fstat(fd.get(), &info) < 0) return fail_errno("cannot use %s", path.c_str());
    if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode))
        return fail("%s is neither a regular file nor a block device", path.c_str());
    if (fcntl(fd.get(), F_SETFL, flags & O_DIRECT) < 0) return fail_errno("cannot use %s", path.c_str());
    return info;
}

// What O_DIRECT asks of offsets and memory. Where the host does not say (before Linux 6.1), a page is safe everywhere.
void find_alignment(BlockFile& file, mode_t mode) {
    file.memory_alignment = file.block_size = limits::kPageSize;
    int sector = 0;
    struct statx info{};
    if (statx(file.fd.get(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 && (info.stx_mask & STATX_DIOALIGN) &&
        info.stx_dio_offset_align > 0) {
        file.memory_alignment = info.stx_dio_mem_align;
        file.block_size = info.stx_dio_offset_align;
    } else if (S_ISBLK(mode) && ioctl(file.fd.get(), BLKSSZGET, &sector) == 0 && sector > 0) {
        file.memory_alignment = file.block_size = static_cast<uint32_t>(sector);
    }
    file.block_size = std::max(file.block_size, kSectorSize);
}

}  // namespace

Result<BlockFile> BlockFile::open(const std::string& path, Access access, Cache cache, const char* name) {
    BlockFile file;
    int flags = access == Access::kReadOnly ? O_RDONLY : O_RDWR;
    if (cache == Cache::kDirect) {
        file.cached_fd = TRY(open_without_waiting(path, flags));
        TRY(check_file(file.cached_fd, path, flags));
        flags |= O_DIRECT;
    }
    file.fd = TRY(open_without_waiting(path, flags));
    const struct stat info = TRY(check_file(file.fd, path, flags));
    if (cache == Cache::kDirect) find_alignment(file, info.st_mode);

    const uint64_t size = TRY(file_size(file.fd.get(), path));
    if (size < kSectorSize)
        LOG_WARNING("%s: %s is empty: the guest sees a disk of 0 sectors until a PATCH names another file", name,
                    path.c_str());
    else if (size % kSectorSize != 0)
        LOG_WARNING("%s: the size of %s, %lu bytes, is no multiple of %u: the guest will not see the last %lu bytes",
                    name, path.c_str(), size, kSectorSize, size % kSectorSize);
    file.sectors = size / kSectorSize;
    file.writable = access == Access::kReadWrite;
    file.is_device = S_ISBLK(info.st_mode);
    file.device_id = format("%lu%lu%lu", info.st_dev, info.st_rdev, info.st_ino);
    file.device_id.resize(VIRTIO_BLK_ID_BYTES);
    return file;
}

// Changes nothing: a hole behind the end of a file is none, and an empty discard is refused in any case, with another
// errno where the device cannot discard.
bool BlockFile::can_punch_holes() const {
    if (!is_device)
        return fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         static_cast<off_t>((sectors * kSectorSize / limits::kPageSize + 1) * limits::kPageSize),
                         limits::kPageSize) == 0;
    uint64_t nothing[2] = {0, 0};
    return ioctl(fd.get(), BLKDISCARD, nothing) == 0 || errno == EINVAL;
}

}  // namespace wisp::virtio
