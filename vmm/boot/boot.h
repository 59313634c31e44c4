// SPDX-License-Identifier: Apache-2.0
//
// set_up_boot(): fills empty guest memory with all that a vCPU needs to start a kernel: kernel, initrd, command line,
// tables. It calls the rest of this folder in order.
//
// Threads: any one, before the vCPUs run. Trust: image files and command line are the operator's and may hold anything.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "base/guest_memory.h"
#include "base/result.h"
#include "vmm/boot/command_line.h"
#include "vmm/boot/entry_state.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/load/initrd.h"
#include "vmm/boot/load/kernel.h"
#include "vmm/boot/tables/acpi.h"

namespace wisp::boot {

/// A file that is open for reading; the caller owns it.
struct BootFile {
    int fd = -1;
    std::string path;  ///< for messages
};

struct BootRequest {
    BootFile kernel;
    std::optional<BootFile> initrd;
    CommandLine command_line;       ///< from boot_args; set_up_boot adds words, as Firecracker does
    std::optional<RootDrive> root;  ///< the drive to mount as root, if there is one
    unsigned vcpu_count = 1;        ///< 1 to limits::kMaxVcpus
    Presence serial = Presence::kPresent;
    Presence keyboard = Presence::kAbsent;
    std::span<const VirtioMmioDevice> virtio_devices;  ///< in the order in which the guest names them
};

/// The input of entry_registers() and set_entry_sregs().
struct EntryPoint {
    LoadedKernel kernel;
    std::string command_line;  ///< as the guest sees it
};

/// Loads the kernel and all that it reads at its start into `memory`, which GuestMemory::create() has just made with
/// memory_ranges(). Makes no KVM call. An error names the file or structure, and what does not fit.
Result<EntryPoint> set_up_boot(const GuestMemory& memory, const BootRequest& request);

}  // namespace wisp::boot
