// SPDX-License-Identifier: Apache-2.0
//
// VcpuState: all that KVM holds of a vCPU, outside of it: captured from one, saved as records, restored from them, and
// applied to a fresh one. The steps of capture() and apply(), and why they are in this order, are in vcpu_state.cc.
//
// restore() trusts nothing: a field that KVM would take without a check is refused by name here.
//
// Threads: the vCPU's own, or another while that one is not in the guest.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/record.h"
#include "vmm/kvm/msr.h"
#include "vmm/kvm/vcpu_fd.h"

namespace wisp {

struct VcpuState {
    CpuidTable cpuid;
    uint32_t tsc_khz = 0;
    kvm_sregs sregs{};
    kvm_regs regs{};
    kvm_xcrs xcrs{};
    std::vector<std::byte> xsave;  ///< as long as KVM made it: 4 KiB, or more with features such as AMX
    kvm_debugregs debug_registers{};
    std::vector<MsrValue> msrs;
    kvm_lapic_state lapic{};
    kvm_vcpu_events events{};
    uint32_t mp_state = KVM_MP_STATE_RUNNABLE;

    static constexpr RecordType kRecord{"vcpu", "vcpu", 1, Need::kRequired};

    /// `msr_indices`: saved_msrs(). `xsave_size`: Vm::xsave_size().
    static Result<VcpuState> capture(const VcpuFd& vcpu, std::span<const uint32_t> msr_indices, size_t xsave_size);
    /// Into a vCPU that has not run, of a VM that has its irqchip and its memory (kvmclock and steal time name guest
    /// pages). Returns the MSRs that this host does not take and the guest can do without. The VM's own state comes
    /// after that of all vCPUs: see VmState.
    Result<std::vector<uint32_t>> apply(const VcpuFd& vcpu, size_t xsave_size) const;

    /// The content of a group of type kRecord.
    void save(RecordWriter& writer) const;
    static Result<VcpuState> restore(RecordReader& reader);
};

}  // namespace wisp
