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

// Looks without changing anything: a hole behind the end of a file changes nothing, an empty discard is refused, but
// for another reason where the device cannot discard at all.
bool probe_holes(int fd, mode_t mode, uint64_t size) {
    if (S_ISREG(mode))
        return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         static_cast<off_t>((size | (limits::kPageSize - 1)) + 1), limits::kPageSize) == 0;
    uint64_t nothing[2] = {0, 0};
    return ioctl(fd, BLKDISCARD, nothing) == 0 || errno == EINVAL;
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
    // Before opening: to open a FIFO would wait for its other end.
    struct stat info{};
    if (stat(path.c_str(), &info) < 0) return fail_errno("cannot use %s", path.c_str());
    if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode))
        return fail("%s is neither a regular file nor a block device", path.c_str());

    BlockFile file;
    const int flags = access == Access::kReadOnly ? O_RDONLY : O_RDWR;
    file.fd = TRY(open_file(path, flags | (cache == Cache::kDirect ? O_DIRECT : 0)));
    if (fstat(file.fd.get(), &info) < 0) return fail_errno("cannot use %s", path.c_str());
    if (cache == Cache::kDirect) {
        file.cached_fd = TRY(open_file(path, flags));
        find_alignment(file, info.st_mode);
    }

    const uint64_t size = TRY(file_size(file.fd.get(), path));
    if (size < kSectorSize)
        return fail("%s is empty: a drive has at least one sector of %u bytes", path.c_str(), kSectorSize);
    if (size % kSectorSize != 0)
        LOG_WARNING("%s: the size of %s, %lu bytes, is no multiple of %u: the guest will not see the last %lu bytes",
                    name, path.c_str(), size, kSectorSize, size % kSectorSize);
    file.sectors = size / kSectorSize;
    file.is_device = S_ISBLK(info.st_mode);
    file.can_punch_holes = access == Access::kReadWrite && probe_holes(file.fd.get(), info.st_mode, size);
    file.device_id = format("%lu%lu%lu", info.st_dev, info.st_rdev, info.st_ino);
    file.device_id.resize(VIRTIO_BLK_ID_BYTES);
    return file;
}

}  // namespace wisp::virtio
