// SPDX-License-Identifier: Apache-2.0
//
// Loading an initial RAM disk.
#pragma once

#include <cstdint>
#include <string>

#include "base/guest_memory.h"
#include "base/result.h"
#include "vmm/boot/load/kernel.h"

namespace wisp::boot {

struct LoadedInitrd {
    GuestAddress start;
    uint64_t size = 0;  ///< bytes; 0 where there is none
};

/// Reads the initrd from `fd` to the highest page-aligned address at which it fits below the MMIO hole and the kernel's
/// initrd_addr_max, without touching the kernel. `path` is for messages. An empty file is an error.
Result<LoadedInitrd> load_initrd(const GuestMemory& memory, int fd, const std::string& path,
                                 const LoadedKernel& kernel);

}  // namespace wisp::boot
