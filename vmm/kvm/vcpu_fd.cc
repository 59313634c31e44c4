// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vcpu_fd.h"

#include <algorithm>
#include <cstring>

#include "vmm/kvm/ioctl.h"

namespace wisp {

int VcpuFd::run() const {
    return ioctl(fd(), KVM_RUN, 0) < 0 ? errno : 0;
}

Result<CpuidTable> VcpuFd::cpuid() const {
    kvm::ArrayRequest<kvm_cpuid_entry2> request(kvm::kMaxCpuidEntries);
    TRY(kvm::call(fd(), kvm::kGetCpuid2, "KVM_GET_CPUID2", &request.header()));
    return CpuidTable(request.entries(), request.entries() + request.header().count);
}

Result<void> VcpuFd::set_cpuid(const CpuidTable& table) const {
    kvm::ArrayRequest<kvm_cpuid_entry2> request(table.size());
    if (!table.empty()) memcpy(request.entries(), table.data(), table.size() * sizeof table[0]);
    TRY(kvm::call(fd(), kvm::kSetCpuid2, "KVM_SET_CPUID2", &request.header()));
    return {};
}

Result<kvm_regs> VcpuFd::regs() const {
    return kvm::get<kvm_regs>(fd(), KVM_GET_REGS, "KVM_GET_REGS");
}

Result<void> VcpuFd::set_regs(const kvm_regs& regs) const {
    return kvm::set(fd(), KVM_SET_REGS, "KVM_SET_REGS", regs);
}

Result<kvm_sregs> VcpuFd::sregs() const {
    return kvm::get<kvm_sregs>(fd(), KVM_GET_SREGS, "KVM_GET_SREGS");
}

Result<void> VcpuFd::set_sregs(const kvm_sregs& sregs) const {
    return kvm::set(fd(), KVM_SET_SREGS, "KVM_SET_SREGS", sregs);
}

Result<kvm_xcrs> VcpuFd::xcrs() const {
    return kvm::get<kvm_xcrs>(fd(), KVM_GET_XCRS, "KVM_GET_XCRS");
}

Result<void> VcpuFd::set_xcrs(const kvm_xcrs& xcrs) const {
    return kvm::set(fd(), KVM_SET_XCRS, "KVM_SET_XCRS", xcrs);
}

Result<void> VcpuFd::set_xcr0(const CpuidTable& table) const {
    const auto xsave = std::find_if(table.begin(), table.end(), [](const kvm_cpuid_entry2& entry) {
        return entry.function == 0xd && entry.index == 0;
    });
    if (xsave == table.end() || xsave->eax == 0) return {};
    kvm_xcrs xcrs{};
    xcrs.nr_xcrs = 1;
    xcrs.xcrs[0].value = static_cast<uint64_t>(xsave->edx) << 32 | xsave->eax;
    return set_xcrs(xcrs);
}

Result<std::vector<std::byte>> VcpuFd::xsave(size_t size) const {
    std::vector<std::byte> state(size);
    if (size > sizeof(kvm::XsaveArea))
        TRY(kvm::call(fd(), kvm::kGetXsave2, "KVM_GET_XSAVE2", state.data()));
    else
        TRY(kvm::call(fd(), kvm::kGetXsave, "KVM_GET_XSAVE", state.data()));
    return state;
}

Result<void> VcpuFd::set_xsave(std::span<const std::byte> state) const {
    TRY(kvm::call(fd(), kvm::kSetXsave, "KVM_SET_XSAVE", state.data()));
    return {};
}

Result<kvm_vcpu_events> VcpuFd::events() const {
    return kvm::get<kvm_vcpu_events>(fd(), KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS");
}

Result<void> VcpuFd::set_events(const kvm_vcpu_events& events) const {
    return kvm::set(fd(), KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS", events);
}

Result<kvm_debugregs> VcpuFd::debug_registers() const {
    return kvm::get<kvm_debugregs>(fd(), KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS");
}

Result<void> VcpuFd::set_debug_registers(const kvm_debugregs& registers) const {
    return kvm::set(fd(), KVM_SET_DEBUGREGS, "KVM_SET_DEBUGREGS", registers);
}

Result<kvm_lapic_state> VcpuFd::lapic() const {
    return kvm::get<kvm_lapic_state>(fd(), KVM_GET_LAPIC, "KVM_GET_LAPIC");
}

Result<void> VcpuFd::set_lapic(const kvm_lapic_state& state) const {
    return kvm::set(fd(), KVM_SET_LAPIC, "KVM_SET_LAPIC", state);
}

Result<uint32_t> VcpuFd::mp_state() const {
    return TRY(kvm::get<kvm_mp_state>(fd(), KVM_GET_MP_STATE, "KVM_GET_MP_STATE")).mp_state;
}

Result<void> VcpuFd::set_mp_state(uint32_t state) const {
    return kvm::set(fd(), KVM_SET_MP_STATE, "KVM_SET_MP_STATE", kvm_mp_state{state});
}

Result<uint32_t> VcpuFd::tsc_khz() const {
    return static_cast<uint32_t>(TRY(kvm::call(fd(), KVM_GET_TSC_KHZ, "KVM_GET_TSC_KHZ", 0)));
}

Result<void> VcpuFd::set_tsc_khz(uint32_t khz) const {
    TRY(kvm::call(fd(), KVM_SET_TSC_KHZ, "KVM_SET_TSC_KHZ", static_cast<unsigned long>(khz)));
    return {};
}

bool VcpuFd::note_pause() const {
    return ioctl(fd(), KVM_KVMCLOCK_CTRL, 0) == 0;
}

Result<uint64_t> VcpuFd::msr(uint32_t index) const {
    kvm_msr_entry entry{.index = index, .reserved = 0, .data = 0};
    if (TRY(get_msrs(std::span(&entry, 1))) != 1) return fail("KVM_GET_MSRS: KVM has no MSR 0x%x", index);
    return entry.data;
}

Result<size_t> VcpuFd::get_msrs(std::span<kvm_msr_entry> msrs) const {
    if (msrs.size() > kvm::kMaxMsrs) return fail("KVM_GET_MSRS: more than %u at once", kvm::kMaxMsrs);
    kvm::ArrayRequest<kvm_msr_entry> request(msrs.size());
    std::ranges::copy(msrs, request.entries());
    const int got = TRY(kvm::call(fd(), kvm::kGetMsrs, "KVM_GET_MSRS", &request.header()));
    std::copy_n(request.entries(), got, msrs.begin());
    return static_cast<size_t>(got);
}

Result<size_t> VcpuFd::try_set_msrs(std::span<const kvm_msr_entry> msrs) const {
    if (msrs.size() > kvm::kMaxMsrs) return fail("KVM_SET_MSRS: more than %u at once", kvm::kMaxMsrs);
    kvm::ArrayRequest<kvm_msr_entry> request(msrs.size());
    std::ranges::copy(msrs, request.entries());
    return static_cast<size_t>(TRY(kvm::call(fd(), kvm::kSetMsrs, "KVM_SET_MSRS", &request.header())));
}

Result<void> VcpuFd::set_msrs(std::span<const kvm_msr_entry> msrs) const {
    const size_t set = TRY(try_set_msrs(msrs));
    if (set != msrs.size()) return fail("KVM_SET_MSRS: KVM refuses MSR 0x%x", msrs[set].index);
    return {};
}

}  // namespace wisp
