// SPDX-License-Identifier: Apache-2.0
//
// Loading a kernel image into guest memory: which kind it is, where it goes, and where it is entered.
//
// The image file is the operator's, not the guest's, but it may be anything: each number in it is checked before use.
// Threads: any one, before the vCPUs run; unshare_kernel() with the vCPUs paused.
#pragma once

#include <asm/bootparam.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wisp::boot {

/// How the bytes of a kernel image get into guest memory.
enum class KernelMapping {
    kMap,   ///< whole pages are mapped privately from the file: no copy, and its clean pages are shared by all VMs.
            ///< The file must keep its content and length while they are mapped: see KernelLease, unshare_kernel().
    kCopy,  ///< everything is read
};

/// How the kernel is entered.
enum class BootProtocol {
    kLinux64,  ///< in long mode with a zero page (kernel Documentation/x86/boot.rst, "64-bit Boot Protocol")
    kPvh,      ///< in 32-bit protected mode with a start info structure (Xen docs/misc/pvh.pandoc)
};

/// Guest pages that are file pages of the kernel image.
struct MappedRange {
    GuestAddress start;
    uint64_t size = 0;  ///< bytes, whole pages
};

struct LoadedKernel {
    BootProtocol protocol = BootProtocol::kLinux64;
    GuestAddress entry;
    GuestAddress start;  ///< lowest address that the kernel takes
    GuestAddress end;    ///< first address after what it takes: with its bss, or the room that a bzImage unpacks into
    /// For the zero page: a bzImage's own, the least that Linux wants for an ELF image.
    setup_header header{};
    std::vector<MappedRange> mapped;
};

/// Loads the ELF (vmlinux) or bzImage kernel that `fd` is open on. `path` is for messages.
///
/// ELF: 64-bit little-endian x86-64 with physical addresses in its program headers. A PVH note
/// (XEN_ELFNOTE_PHYS32_ENTRY) decides for kPvh, unless the image says that it is Linux, which starts faster by its
/// 64-bit entry; else the entry point of the ELF header for kLinux64. bzImage: boot protocol 2.12 or later with a
/// 64-bit entry point (XLF_KERNEL_64), loaded at its preferred address.
///
/// Guest memory must be as created: the zeros between and after segments are taken to be there.
/// Where a range cannot be mapped (huge-page memory, a file system without mmap), it is copied.
Result<LoadedKernel> load_kernel(const GuestMemory& memory, int fd, const std::string& path, KernelMapping mapping);

/// Replaces what is still mapped from the kernel file by private copies, so that the file may then change.
/// Nothing else may write to guest memory meanwhile: the vCPUs are paused and no device has I/O in flight. After an
/// error part of it may still be mapped; what is done stays done, and it may be called again.
Result<void> unshare_kernel(const GuestMemory& memory, LoadedKernel& kernel);

}  // namespace wisp::boot
