// SPDX-License-Identifier: Apache-2.0
//
// Loads a kernel image into guest memory: finds its format, copies it to its place and finds its entry point.
//
// Trust: the image file belongs to the operator, not to the guest, but it may hold anything. Each number in it is
// checked before it is used. The file is not read again after load_kernel() returns.
// Threads: any one, before the vCPUs run.
#pragma once

#include <asm/bootparam.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wisp::boot {

/// How the kernel is entered.
enum class BootProtocol {
    kLinux64,  ///< in long mode with a zero page (kernel Documentation/x86/boot.rst, "64-bit Boot Protocol")
    kPvh,      ///< in 32-bit protected mode with a start info structure (Xen docs/misc/pvh.pandoc)
};

struct LoadedKernel {
    BootProtocol protocol = BootProtocol::kLinux64;
    GuestAddress entry;
    GuestAddress start;  ///< lowest address that the kernel occupies
    GuestAddress end;    ///< first address behind the kernel, its bss and the room in which a bzImage unpacks itself
    /// For the zero page. A bzImage brings its own; for an ELF image, the few fields that Linux reads.
    setup_header header{};
};

/// Loads the ELF (vmlinux) or bzImage kernel from `fd`, which is open for reading. `path` is for messages.
///
/// ELF: 64-bit little-endian x86-64 with physical addresses in its program headers. An image with a PVH note
/// (XEN_ELFNOTE_PHYS32_ENTRY) is entered by kPvh, except where its notes say that it is Linux: Linux starts faster by
/// its 64-bit entry. An image without the note is entered by kLinux64 at the ELF header's entry point.
/// bzImage: boot protocol 2.12 or later with a 64-bit entry point (XLF_KERNEL_64), loaded at its preferred address.
///
/// Guest memory must still be as it was created: the bytes between and behind segments are not written, so they must
/// be zero already.
Result<LoadedKernel> load_kernel(const GuestMemory& memory, int fd, const std::string& path);

}  // namespace wisp::boot
