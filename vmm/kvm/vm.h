// SPDX-License-Identifier: Apache-2.0
//
// Vm: a VM of KVM and what belongs to all of its vCPUs: memory slots, interrupt controllers, clock. Each call is
// wrapped once and named as in Documentation/virt/kvm/api.rst; errors name it.
//
// Order matters on every host: a memory slot or routing change after an earlier one waits for an SRCU grace period
// (milliseconds), so the builder makes each change once, slots first, and nothing is undone at exit that the kernel
// undoes by itself.
//
// Threads: the one that builds the VM; afterwards the loop's, while vCPUs are paused, and vCPU threads for the PIT.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <optional>
#include <span>

#include "base/fd.h"
#include "base/guest_memory.h"
#include "base/result.h"
#include "vmm/kvm/vcpu_fd.h"

namespace wisp {

class Vm {
public:
    Vm() = default;
    Vm(OwnedFd fd, size_t run_size) : fd_(std::move(fd)), run_size_(run_size) {}

    int fd() const { return fd_.get(); }

    /// KVM_SET_TSS_ADDR: the three pages that Intel hosts without unrestricted guest need below 4 GiB.
    Result<void> set_tss_address(uint64_t address) const;
    enum class DirtyLog { kOff, kOn };
    /// KVM_SET_USER_MEMORY_REGION.
    Result<void> set_memory_slot(uint32_t slot, const GuestRegion& region, DirtyLog dirty_log) const;
    /// KVM_GET_DIRTY_LOG: sets a bit in `bitmap` for each page of the slot that the guest wrote since the last call,
    /// and begins anew. `bitmap` has one bit a page, lowest first, and is `pages` bits rounded up to whole words.
    Result<void> get_dirty_log(uint32_t slot, std::span<uint64_t> bitmap) const;
    /// KVM_CREATE_IRQCHIP: PICs, IOAPIC and local APICs in the kernel. All lines of the PIC are masked.
    Result<void> create_irqchip() const;
    /// KVM_GET_IRQCHIP and KVM_SET_IRQCHIP: `chip` is KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE or
    /// KVM_IRQCHIP_IOAPIC.
    Result<kvm_irqchip> irqchip(uint32_t chip) const;
    Result<void> set_irqchip(const kvm_irqchip& chip) const;
    /// KVM_CREATE_PIT2: the i8254, with its reads of port 0x61 answered as well.
    Result<void> create_pit() const;
    /// KVM_GET_PIT2 and KVM_SET_PIT2. Without create_pit(): ENXIO.
    Result<kvm_pit_state2> pit() const;
    Result<void> set_pit(const kvm_pit_state2& state) const;
    /// KVM_GET_CLOCK and KVM_SET_CLOCK: kvmclock in ns, and with KVM_CLOCK_REALTIME (Linux 5.16) the host's clock at
    /// that moment. Of the flags, KVM_SET_CLOCK takes KVM_CLOCK_REALTIME alone.
    Result<kvm_clock_data> clock() const;
    Result<void> set_clock(const kvm_clock_data& clock) const;
    /// KVM_CHECK_EXTENSION of KVM_CAP_XSAVE2: bytes of what VcpuFd::xsave() gives, at least 4096.
    size_t xsave_size() const;
    /// KVM_CREATE_VCPU.
    Result<VcpuFd> create_vcpu(unsigned id) const;
    /// KVM_IOEVENTFD: a 32-bit write of `value` to the guest physical address signals the eventfd, without an exit to
    /// this process.
    Result<void> add_ioeventfd(int event_fd, uint64_t address, uint32_t value) const;
    /// KVM_IRQFD: a signal of the eventfd is an edge on the interrupt line.
    Result<void> add_irqfd(int event_fd, uint32_t gsi) const;
    /// KVM_IRQ_LINE: an edge on the interrupt line, for a device that has one so rarely that an irqfd would not pay.
    Result<void> pulse_irq_line(uint32_t gsi) const;

private:
    OwnedFd fd_;
    size_t run_size_ = 0;
};

}  // namespace wisp
