// SPDX-License-Identifier: Apache-2.0
//
// VcpuFd: a vCPU of KVM: its run page and the parts of its state. Each call is wrapped once and named as in
// Documentation/virt/kvm/api.rst; errors name it. In which order the parts are read and written: vmm/kvm/vcpu_state.h.
//
// Threads: the vCPU's own, which KVM expects; another one only while that one is not in the guest.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "base/result.h"
#include "vmm/kvm/cpuid_table.h"

namespace wisp {

class VcpuFd {
public:
    VcpuFd() = default;
    VcpuFd(OwnedFd fd, Mapping run) : fd_(std::move(fd)), run_(std::move(run)) {}

    bool valid() const { return fd_.valid(); }
    int fd() const { return fd_.get(); }
    kvm_run& run_page() const { return *reinterpret_cast<kvm_run*>(run_.data()); }

    /// KVM_RUN. 0, or the errno: EINTR (kicked), EAGAIN, EFAULT (guest memory lost its backing), …
    int run() const;

    /// KVM_GET_CPUID2 and KVM_SET_CPUID2. KVM keeps some bits up to date, such as OSXSAVE, and shows them here.
    Result<CpuidTable> cpuid() const;
    Result<void> set_cpuid(const CpuidTable& table) const;
    /// KVM_GET_REGS and KVM_SET_REGS. Writing them drops an exception that waits to be delivered.
    Result<kvm_regs> regs() const;
    Result<void> set_regs(const kvm_regs& regs) const;
    /// KVM_GET_SREGS and KVM_SET_SREGS: segments, control registers, EFER, APIC base.
    Result<kvm_sregs> sregs() const;
    Result<void> set_sregs(const kvm_sregs& sregs) const;
    /// KVM_GET_XCRS and KVM_SET_XCRS.
    Result<kvm_xcrs> xcrs() const;
    Result<void> set_xcrs(const kvm_xcrs& xcrs) const;
    /// XCR0: everything that `table` (leaf 0xd) lists is on from the start, as firmware may leave it. Leaf 0xd tells
    /// the size of what is on, and hosts that do not see the guest's XSETBV (nested ones) would show the reset value's
    /// for ever.
    Result<void> set_xcr0(const CpuidTable& table) const;
    /// KVM_GET_XSAVE2, or KVM_GET_XSAVE where `size` (Vm::xsave_size()) is what that gives; and KVM_SET_XSAVE, for as
    /// many bytes: FPU, SSE, AVX and later registers.
    Result<std::vector<std::byte>> xsave(size_t size) const;
    Result<void> set_xsave(std::span<const std::byte> state) const;
    /// KVM_GET_VCPU_EVENTS and KVM_SET_VCPU_EVENTS: exceptions, interrupts and NMIs that are being delivered or wait.
    Result<kvm_vcpu_events> events() const;
    Result<void> set_events(const kvm_vcpu_events& events) const;
    /// KVM_GET_DEBUGREGS and KVM_SET_DEBUGREGS.
    Result<kvm_debugregs> debug_registers() const;
    Result<void> set_debug_registers(const kvm_debugregs& registers) const;
    /// KVM_GET_LAPIC and KVM_SET_LAPIC: the register page of the local APIC.
    Result<kvm_lapic_state> lapic() const;
    Result<void> set_lapic(const kvm_lapic_state& state) const;
    /// KVM_GET_MP_STATE and KVM_SET_MP_STATE: KVM_MP_STATE_…: running, halted, waiting for INIT or SIPI.
    Result<uint32_t> mp_state() const;
    Result<void> set_mp_state(uint32_t state) const;
    /// KVM_GET_TSC_KHZ and KVM_SET_TSC_KHZ.
    Result<uint32_t> tsc_khz() const;
    Result<void> set_tsc_khz(uint32_t khz) const;
    /// KVM_KVMCLOCK_CTRL: tells the guest's kvmclock that the vCPU was paused, so that its soft-lockup watchdog
    /// forgives the time. False where the guest does not use it.
    bool note_pause() const;

    /// KVM_GET_MSRS of one MSR.
    Result<uint64_t> msr(uint32_t index) const;
    /// KVM_GET_MSRS and KVM_SET_MSRS of at most 256: how many were read or written. KVM stops at the first MSR that it
    /// refuses.
    Result<size_t> get_msrs(std::span<kvm_msr_entry> msrs) const;
    Result<size_t> try_set_msrs(std::span<const kvm_msr_entry> msrs) const;
    /// As try_set_msrs(), but an error if KVM refuses one.
    Result<void> set_msrs(std::span<const kvm_msr_entry> msrs) const;

private:
    OwnedFd fd_;
    Mapping run_;
};

}  // namespace wisp
