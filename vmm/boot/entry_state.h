// SPDX-License-Identifier: Apache-2.0
//
// The boot vCPU's registers, descriptor tables and page tables at the kernel's first instruction. The other vCPUs keep
// the state that KVM gives them, and wait until the guest starts them.
#pragma once

#include <linux/kvm.h>

#include "base/guest_memory.h"
#include "base/result.h"
#include "vmm/boot/load/kernel.h"

namespace wisp::boot {

/// Writes the GDT and, for kLinux64, page tables that map the first GiB to itself with 2 MiB pages.
Result<void> write_entry_tables(const GuestMemory& memory, BootProtocol protocol);

/// General registers (KVM_SET_REGS) at the entry.
kvm_regs entry_registers(BootProtocol protocol, GuestAddress entry);

/// Changes the special registers of a new vCPU (from KVM_GET_SREGS) into those of the entry (for KVM_SET_SREGS).
void set_entry_sregs(BootProtocol protocol, kvm_sregs& sregs);

}  // namespace wisp::boot
