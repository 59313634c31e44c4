// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vm.h"

#include <sys/mman.h>

#include <algorithm>

#include "base/mapping.h"
#include "vmm/kvm/ioctl.h"

namespace wisp {

Result<void> Vm::set_tss_address(uint64_t address) const {
    TRY(kvm::call(fd(), KVM_SET_TSS_ADDR, "KVM_SET_TSS_ADDR", address));
    return {};
}

Result<void> Vm::set_memory_slot(uint32_t slot, const GuestRegion& region, DirtyLog dirty_log) const {
    kvm_userspace_memory_region request{};
    request.slot = slot;
    request.flags = dirty_log == DirtyLog::kOn ? KVM_MEM_LOG_DIRTY_PAGES : 0;
    request.guest_phys_addr = region.start.value;
    request.memory_size = region.size;
    request.userspace_addr = reinterpret_cast<uintptr_t>(region.host);
    if (ioctl(fd(), KVM_SET_USER_MEMORY_REGION, &request) < 0)
        return fail_errno("KVM_SET_USER_MEMORY_REGION of %lu MiB at 0x%lx",
                          static_cast<unsigned long>(region.size >> 20),
                          static_cast<unsigned long>(region.start.value));
    return {};
}

Result<void> Vm::get_dirty_log(uint32_t slot, std::span<uint64_t> bitmap) const {
    kvm_dirty_log request{};
    request.slot = slot;
    request.dirty_bitmap = bitmap.data();
    return kvm::set(fd(), KVM_GET_DIRTY_LOG, "KVM_GET_DIRTY_LOG", request);
}

Result<void> Vm::create_irqchip() const {
    TRY(kvm::call(fd(), KVM_CREATE_IRQCHIP, "KVM_CREATE_IRQCHIP", 0));
    // KVM's begins with no line masked and at vector 0: the first that rises would be an exception to a guest that,
    // by what ACPI says of its hardware, knows of no i8259.
    kvm_irqchip i8259{};
    i8259.chip_id = KVM_IRQCHIP_PIC_MASTER;  // the other is behind one of its lines
    i8259.chip.pic.imr = 0xff;
    i8259.chip.pic.elcr_mask = 0xf8;  // as it was: lines 0 to 2 are always edge-triggered
    return set_irqchip(i8259);
}

Result<kvm_irqchip> Vm::irqchip(uint32_t chip) const {
    kvm_irqchip state{};
    state.chip_id = chip;
    TRY(kvm::call(fd(), KVM_GET_IRQCHIP, "KVM_GET_IRQCHIP", &state));
    return state;
}

Result<void> Vm::set_irqchip(const kvm_irqchip& chip) const {
    return kvm::set(fd(), KVM_SET_IRQCHIP, "KVM_SET_IRQCHIP", chip);
}

Result<void> Vm::create_pit() const {
    kvm_pit_config config{};
    config.flags = KVM_PIT_SPEAKER_DUMMY;
    return kvm::set(fd(), KVM_CREATE_PIT2, "KVM_CREATE_PIT2", config);
}

Result<kvm_pit_state2> Vm::pit() const {
    return kvm::get<kvm_pit_state2>(fd(), KVM_GET_PIT2, "KVM_GET_PIT2");
}

Result<void> Vm::set_pit(const kvm_pit_state2& state) const {
    return kvm::set(fd(), KVM_SET_PIT2, "KVM_SET_PIT2", state);
}

Result<kvm_clock_data> Vm::clock() const {
    return kvm::get<kvm_clock_data>(fd(), KVM_GET_CLOCK, "KVM_GET_CLOCK");
}

Result<void> Vm::set_clock(const kvm_clock_data& clock) const {
    return kvm::set(fd(), KVM_SET_CLOCK, "KVM_SET_CLOCK", clock);
}

size_t Vm::xsave_size() const {
    const int size = ioctl(fd(), KVM_CHECK_EXTENSION, static_cast<unsigned long>(KVM_CAP_XSAVE2));
    return std::max(static_cast<size_t>(std::max(size, 0)), sizeof(kvm::XsaveArea));
}

Result<VcpuFd> Vm::create_vcpu(unsigned id) const {
    OwnedFd vcpu(ioctl(fd(), KVM_CREATE_VCPU, static_cast<unsigned long>(id)));
    if (!vcpu.valid()) return fail_errno("KVM_CREATE_VCPU %u", id);
    Mapping run =
        TRY(Mapping::of_fd(vcpu.get(), 0, run_size_, PROT_READ | PROT_WRITE, MAP_SHARED, "a vCPU's run page"));
    return VcpuFd(std::move(vcpu), std::move(run));
}

Result<void> Vm::add_ioeventfd(int event_fd, uint64_t address, uint32_t value) const {
    kvm_ioeventfd request{};
    request.datamatch = value;
    request.addr = address;
    request.len = sizeof value;
    request.fd = event_fd;
    request.flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
    if (ioctl(fd(), KVM_IOEVENTFD, &request) < 0)
        return fail_errno("KVM_IOEVENTFD at 0x%lx", static_cast<unsigned long>(address));
    return {};
}

Result<void> Vm::add_irqfd(int event_fd, uint32_t gsi) const {
    kvm_irqfd request{};
    request.fd = static_cast<uint32_t>(event_fd);
    request.gsi = gsi;
    if (ioctl(fd(), KVM_IRQFD, &request) < 0) return fail_errno("KVM_IRQFD for GSI %u", gsi);
    return {};
}

Result<void> Vm::pulse_irq_line(uint32_t gsi) const {
    for (const uint32_t level : {1u, 0u}) {
        kvm_irq_level line{};
        line.irq = gsi;
        line.level = level;
        if (ioctl(fd(), KVM_IRQ_LINE, &line) < 0) return fail_errno("KVM_IRQ_LINE for GSI %u", gsi);
    }
    return {};
}

}  // namespace wisp
