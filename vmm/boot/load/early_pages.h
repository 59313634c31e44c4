// SPDX-License-Identifier: Apache-2.0
//
// early_pages(): the guest memory that every Linux kernel touches while it boots. To be brought in ahead, where there
// is time to spare.
#pragma once

#include <vector>

#include "base/guest_memory.h"
#include "vmm/boot/load/kernel.h"

namespace wisp::boot {

struct EarlyPages {
    GuestSlice slice;
    enum class Kind { kMemory, kFile } kind;  ///< kFile: pages of the kernel image's file, which are only to be read
};

/// In the order of their use, in pieces of at most 2 MiB each: the kernel's image, what it allocates behind it, then
/// the end of RAM below 4 GiB, from where it takes its first pages downwards (page tables, and 64 bytes for each page
/// of RAM). What was copied of the image is there already.
std::vector<EarlyPages> early_pages(const GuestMemory& memory, const LoadedKernel& kernel);

}  // namespace wisp::boot
