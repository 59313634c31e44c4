// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/kvm.h>

namespace wisp {

/// MSRs that a vCPU starts with where KVM's own value after creation is not what a guest expects of firmware. The
/// others that firmware would clear (SYSENTER_*, STAR, LSTAR, CSTAR, SYSCALL_MASK, KERNEL_GS_BASE, TSC) are zero
/// already.
inline constexpr kvm_msr_entry kBootMsrs[] = {
    {.index = 0x1a0, .reserved = 0, .data = 1},                // IA32_MISC_ENABLE: fast string operations
    {.index = 0x2ff, .reserved = 0, .data = (1 << 11) | 0x6},  // IA32_MTRR_DEF_TYPE: MTRRs on, write-back
};

}  // namespace wisp
