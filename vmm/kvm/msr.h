// SPDX-License-Identifier: Apache-2.0
//
// Model-specific registers: what a vCPU starts with, and which are part of its saved state.
//
// Saved is what KVM itself lists as state (KVM_GET_MSR_INDEX_LIST), without those that this monitor's guests cannot
// have a state in. On the way back only registers are written whose value differs from that of the fresh vCPU: that
// spares the calls, and hosts refuse even the present value for some read-only registers.
//
// Threads: the vCPU's own, or another while that one is not in the guest.
#pragma once

#include <linux/kvm.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace wisp {

class Kvm;
class VcpuFd;

/// MSRs that a vCPU starts with where KVM's own value after creation is not what a guest expects of firmware. The
/// others that firmware would clear (SYSENTER_*, STAR, LSTAR, CSTAR, SYSCALL_MASK, KERNEL_GS_BASE, TSC) are zero
/// already.
inline constexpr kvm_msr_entry kBootMsrs[] = {
    {.index = 0x1a0, .reserved = 0, .data = 1},                // IA32_MISC_ENABLE: fast string operations
    {.index = 0x2ff, .reserved = 0, .data = (1 << 11) | 0x6},  // IA32_MTRR_DEF_TYPE: MTRRs on, write-back
};

inline constexpr uint32_t kMsrTsc = 0x10, kMsrTscDeadline = 0x6e0;

struct MsrValue {
    uint32_t index;
    uint64_t value;
    bool operator==(const MsrValue&) const = default;
};

/// The MSRs that are saved on this host, in KVM's order: for every vCPU of the process the same.
Result<std::vector<uint32_t>> saved_msrs(const Kvm& kvm);

/// Reads them. A register that KVM lists but does not give this vCPU (its CPUID lacks the feature) is left out.
Result<std::vector<MsrValue>> read_msrs(const VcpuFd& vcpu, std::span<const uint32_t> indices);

/// Writes those that differ. The indices of what the host refuses and the guest does not need are returned, for a
/// warning; an error names the first other register that it refuses.
Result<std::vector<uint32_t>> write_msrs(const VcpuFd& vcpu, std::span<const MsrValue> values);

/// True if a guest goes on without harm where the host does not take this MSR.
bool is_harmless_without(const MsrValue& msr);

}  // namespace wisp
