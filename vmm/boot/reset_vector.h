// SPDX-License-Identifier: Apache-2.0
//
// The reset vector: the address at which a PC's firmware starts. Wisp has no firmware. But Linux with hardware-reduced
// ACPI and no `reboot=` option chooses the EFI reset, finds no EFI, switches to real mode and jumps here (6.1
// arch/x86/kernel/reboot.c: reboot_init, native_machine_emergency_restart). Without code here, such a guest would hang.
#pragma once

#include "base/guest_memory.h"
#include "base/result.h"

namespace wisp::boot {

/// Writes real-mode code to kResetVector that resets the machine through the i8042's port.
Result<void> write_reset_vector(const GuestMemory& memory);

}  // namespace wisp::boot
