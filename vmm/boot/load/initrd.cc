// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/load/initrd.h"

#include <algorithm>

#include "base/check.h"
#include "base/fd.h"
#include "base/limits.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/load/place.h"

namespace wisp::boot {

Result<LoadedInitrd> load_initrd(const GuestMemory& memory, int fd, const std::string& path,
                                 const LoadedKernel& kernel) {
    const uint64_t size = TRY_CONTEXT("initrd", file_size(fd, path));
    if (size == 0) return fail("initrd %s: the file is empty", path.c_str());

    // Below the MMIO hole, because the first region ends there. An ELF kernel names no limit of its own.
    CHECK(!memory.regions().empty());
    uint64_t top = memory.regions().front().end();
    if (kernel.header.initrd_addr_max != 0) top = std::min(top, uint64_t{kernel.header.initrd_addr_max} + 1);
    const uint64_t start = size <= top ? align_down(top - size, limits::kPageSize) : 0;
    const uint64_t lowest = std::max(align_up(kernel.end.value, limits::kPageSize), kHighRam.value);
    if (start < lowest) {
        const uint64_t room = top > lowest ? top - lowest : 0;
        return fail("initrd %s: its %lu KiB do not fit in the %lu KiB between the kernel and the end of usable memory",
                    path.c_str(), static_cast<unsigned long>((size + 1023) >> 10),
                    static_cast<unsigned long>(room >> 10));
    }

    const size_t got = TRY_CONTEXT("initrd", read_into_guest(memory, {start}, fd, 0, size, path));
    if (got < size) return fail("initrd %s: the file became shorter while it was loaded", path.c_str());
    return LoadedInitrd{{start}, size};
}

}  // namespace wisp::boot
