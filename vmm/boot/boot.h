// SPDX-License-Identifier: Apache-2.0
//
// set_up_boot(): from empty guest memory to one that a vCPU can be started in. The story of this folder in one place.
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

/// A file that is open for reading. Not owned.
struct BootFile {
    int fd = -1;
    std::string path;  ///< for messages
};

struct BootRequest {
    BootFile kernel;
    std::optional<BootFile> initrd;
    CommandLine command_line;       ///< from boot_args; set_up_boot adds the rest, as Firecracker does
    std::optional<RootDrive> root;  ///< the drive to mount as root, if one is
    unsigned vcpu_count = 1;        ///< 1 to limits::kMaxVcpus
    Presence serial = Presence::kPresent;
    Presence keyboard = Presence::kAbsent;
    std::span<const VirtioMmioDevice> virtio_devices;  ///< in the order in which the guest shall name them
};

/// Where and how the boot vCPU starts: for entry_registers() and set_entry_sregs().
struct EntryPoint {
    LoadedKernel kernel;
    std::string command_line;  ///< as the guest sees it
};

/// Loads the kernel and everything that it is handed into `memory`, which must be as GuestMemory::create() made it with
/// memory_ranges(). Makes no KVM call.
Result<EntryPoint> set_up_boot(const GuestMemory& memory, const BootRequest& request);

}  // namespace wisp::boot
