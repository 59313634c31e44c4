// SPDX-License-Identifier: Apache-2.0
//
// early_pages(): the guest memory that every Linux kernel touches while it boots. The builder populates it in advance
// when it would otherwise wait: the guest then takes no page faults there.
#pragma once

#include <vector>

#include "base/guest_memory.h"
#include "vmm/boot/load/kernel.h"

namespace wisp::boot {

/// Pieces of at most 2 MiB, in the order in which the kernel uses them: first the memory behind its image, then the end
/// of RAM below 4 GiB, from which it allocates downwards (page tables, and 64 bytes for each page of RAM). The image
/// itself is not listed: loading it has populated its pages.
std::vector<GuestSlice> early_pages(const GuestMemory& memory, const LoadedKernel& kernel);

}  // namespace wisp::boot
