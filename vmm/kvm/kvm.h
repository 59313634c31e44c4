// SPDX-License-Identifier: Apache-2.0
//
// Kvm, Vm, VcpuFd: the KVM API (Documentation/virt/kvm/api.rst), each call wrapped once, with errors that name it.
//
// Order matters on every host: a memory slot or routing change after an earlier one waits for an SRCU grace period
// (milliseconds), so the builder makes each change once, slots first, and nothing is undone at exit that the kernel
// undoes by itself.
//
// Threads: Vm is used by the builder alone. A VcpuFd belongs to its vCPU's thread.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/guest_memory.h"
#include "base/mapping.h"
#include "base/result.h"

namespace wisp {

/// The CPUID leaves that KVM and the host's CPU can give a guest.
using CpuidTable = std::vector<kvm_cpuid_entry2>;

class VcpuFd {
public:
    VcpuFd() = default;
    VcpuFd(OwnedFd fd, Mapping run) : fd_(std::move(fd)), run_(std::move(run)) {}

    bool valid() const { return fd_.valid(); }
    int fd() const { return fd_.get(); }
    kvm_run& run_page() const { return *reinterpret_cast<kvm_run*>(run_.data()); }

    /// KVM_RUN. 0, or the errno: EINTR (kicked), EAGAIN, EFAULT (guest memory lost its backing), …
    int run() const;

    /// KVM_KVMCLOCK_CTRL: tells the guest's kvmclock that the vCPU was paused. Fails where the guest does not use it.
    bool note_pause() const;

    Result<void> set_cpuid(const CpuidTable& table) const;
    /// XCR0: everything that `table` (leaf 0xd) lists is on from the start, as firmware may leave it. Leaf 0xd tells
    /// the size of what is on, and hosts that do not see the guest's XSETBV (nested ones) would show the reset value's
    /// for ever.
    Result<void> set_xcr0(const CpuidTable& table) const;
    Result<void> set_msrs(std::span<const kvm_msr_entry> msrs) const;
    Result<uint64_t> msr(uint32_t index) const;
    Result<kvm_regs> regs() const;
    Result<void> set_regs(const kvm_regs& regs) const;
    Result<kvm_sregs> sregs() const;
    Result<void> set_sregs(const kvm_sregs& sregs) const;

private:
    OwnedFd fd_;
    Mapping run_;
};

class Vm {
public:
    Vm() = default;
    Vm(OwnedFd fd, size_t run_size) : fd_(std::move(fd)), run_size_(run_size) {}

    int fd() const { return fd_.get(); }

    /// KVM_SET_TSS_ADDR: the three pages that Intel hosts without unrestricted guest need below 4 GiB.
    Result<void> set_tss_address(uint64_t address) const;
    enum class DirtyLog { kOff, kOn };
    Result<void> set_memory_slot(uint32_t slot, const GuestRegion& region, DirtyLog dirty_log) const;
    /// PICs, IOAPIC and local APICs in the kernel.
    Result<void> create_irqchip() const;
    /// The i8254, with its reads of port 0x61 answered as well.
    Result<void> create_pit() const;
    Result<kvm_pit_state2> pit() const;
    Result<void> set_pit(const kvm_pit_state2& state) const;
    Result<VcpuFd> create_vcpu(unsigned id) const;
    /// A 32-bit write of `value` to the guest physical address signals the eventfd, without an exit to us.
    Result<void> add_ioeventfd(int event_fd, uint64_t address, uint32_t value) const;
    /// A signal of the eventfd is an edge on the interrupt line.
    Result<void> add_irqfd(int event_fd, uint32_t gsi) const;
    /// An edge on the interrupt line, for a device that has one so rarely that an irqfd would not pay.
    Result<void> pulse_irq_line(uint32_t gsi) const;

private:
    OwnedFd fd_;
    size_t run_size_ = 0;
};

class Kvm {
public:
    /// Opens /dev/kvm; errors tell what is missing (device, permission, API version).
    static Result<Kvm> open();

    int fd() const { return fd_.get(); }
    Result<Vm> create_vm() const;
    Result<CpuidTable> supported_cpuid() const;
    /// KVM_CAP_…; numbers that this kernel does not know are false.
    bool has_capability(uint32_t number) const;

private:
    explicit Kvm(OwnedFd fd) : fd_(std::move(fd)) {}
    OwnedFd fd_;
};

}  // namespace wisp
