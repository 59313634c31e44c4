// SPDX-License-Identifier: Apache-2.0
//
// BlockFile: the regular file or block device of the host that holds a drive's data, and its properties.
#pragma once

#include <cstdint>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace wisp::virtio {

struct BlockFile {
    enum class Access : uint8_t { kReadWrite, kReadOnly };
    enum class Cache : uint8_t { kPageCache, kDirect };

    OwnedFd fd;
    /// Of a direct file: the same through the page cache, for transfers that O_DIRECT cannot do. Otherwise invalid.
    OwnedFd cached_fd;
    uint64_t sectors = 0;   ///< of 512 bytes; a last partial one is left out
    std::string device_id;  ///< 20 bytes, as Firecracker makes them
    bool writable = false;
    bool is_device = false;         ///< a block device
    uint32_t memory_alignment = 1;  ///< bytes; of buffers for `fd`
    uint32_t block_size = 512;      ///< bytes; of offsets and lengths for `fd`

    /// Errors name the path and the reason. A size of no sectors, a placeholder's, or of no multiple of 512 bytes gives
    /// a warning under `name`. Does not wait, whatever lies at the path.
    static Result<BlockFile> open(const std::string& path, Access access, Cache cache, const char* name);
    /// Whether fallocate(2), or a device's discard, gives ranges back to the host. Asks the host, and waits where its
    /// file system is frozen.
    bool can_punch_holes() const;
};

}  // namespace wisp::virtio
