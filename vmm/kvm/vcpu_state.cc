// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vcpu_state.h"

#include <algorithm>
#include <bit>

#include "vmm/kvm/ioctl.h"

namespace wisp {

namespace {

constexpr RecordType kCpuid{"cpid", "cpuid", 1, Need::kRequired};
constexpr RecordType kTsc{"tsc ", "tsc", 1, Need::kRequired};
constexpr RecordType kSregs{"sreg", "sregs", 1, Need::kRequired};
constexpr RecordType kRegs{"regs", "regs", 1, Need::kRequired};
constexpr RecordType kXcrs{"xcrs", "xcrs", 1, Need::kRequired};
constexpr RecordType kXsave{"xsav", "xsave", 1, Need::kRequired};
constexpr RecordType kDebug{"dbgr", "debug_registers", 1, Need::kRequired};
constexpr RecordType kMsrs{"msrs", "msrs", 1, Need::kRequired};
constexpr RecordType kLapic{"lapc", "lapic", 1, Need::kRequired};
constexpr RecordType kEvents{"evnt", "events", 1, Need::kRequired};
constexpr RecordType kMpState{"mpst", "mp_state", 1, Need::kRequired};

constexpr size_t kMaxXsave = 64 << 10;
constexpr uint32_t kMaxSavedMsrs = 4096;
constexpr uint32_t kMinTscKhz = 1'000, kMaxTscKhz = 100'000'000;

// --- one record each

void save_cpuid(RecordWriter& writer, const CpuidTable& table) {
    writer.u32(static_cast<uint32_t>(table.size()));
    for (const kvm_cpuid_entry2& entry : table)
        for (const uint32_t value :
             {entry.function, entry.index, entry.flags, entry.eax, entry.ebx, entry.ecx, entry.edx})
            writer.u32(value);
}

Result<CpuidTable> restore_cpuid(RecordReader reader) {
    CpuidTable table(TRY(reader.u32("count", 1, kvm::kMaxCpuidEntries)));
    for (kvm_cpuid_entry2& entry : table) {
        entry.function = TRY(reader.u32("function"));
        entry.index = TRY(reader.u32("index"));
        entry.flags = TRY(reader.u32("flags", 0, KVM_CPUID_FLAG_SIGNIFCANT_INDEX));
        entry.eax = TRY(reader.u32("eax"));
        entry.ebx = TRY(reader.u32("ebx"));
        entry.ecx = TRY(reader.u32("ecx"));
        entry.edx = TRY(reader.u32("edx"));
    }
    TRY(reader.finish());
    return table;
}

void save_xcrs(RecordWriter& writer, const kvm_xcrs& xcrs) {
    writer.u32(xcrs.nr_xcrs);
    for (const kvm_xcr& xcr : std::span(xcrs.xcrs, xcrs.nr_xcrs)) {
        writer.u32(xcr.xcr);
        writer.u64(xcr.value);
    }
}

Result<kvm_xcrs> restore_xcrs(RecordReader reader) {
    kvm_xcrs xcrs{};
    xcrs.nr_xcrs = TRY(reader.u32("count", 0, KVM_MAX_XCRS));
    for (kvm_xcr& xcr : std::span(xcrs.xcrs, xcrs.nr_xcrs)) {
        xcr.xcr = TRY(reader.u32("number", 0, 0));  // there is XCR0 alone
        xcr.value = TRY(reader.u64("value"));
    }
    TRY(reader.finish());
    return xcrs;
}

void save_msrs(RecordWriter& writer, const std::vector<MsrValue>& msrs) {
    writer.u32(static_cast<uint32_t>(msrs.size()));
    for (const MsrValue& msr : msrs) {
        writer.u32(msr.index);
        writer.u64(msr.value);
    }
}

Result<std::vector<MsrValue>> restore_msrs(RecordReader reader) {
    std::vector<MsrValue> msrs(TRY(reader.u32("count", 0, kMaxSavedMsrs)));
    for (MsrValue& msr : msrs) {
        msr.index = TRY(reader.u32("index"));
        msr.value = TRY(reader.u64("value"));
    }
    TRY(reader.finish());
    return msrs;
}

/// The fields of a descriptor are bits of one in hardware, but bytes in KVM's interface.
Result<void> check_segment(const RecordReader& reader, const std::string& name, const kvm_segment& segment) {
    const auto check = [&](const char* field, uint64_t value, uint64_t max) {
        return reader.check_range((name + "." + field).c_str(), value, 0, max);
    };
    TRY(check("type", segment.type, 15));
    TRY(check("present", segment.present, 1));
    TRY(check("dpl", segment.dpl, 3));
    TRY(check("db", segment.db, 1));
    TRY(check("s", segment.s, 1));
    TRY(check("l", segment.l, 1));
    TRY(check("g", segment.g, 1));
    TRY(check("avl", segment.avl, 1));
    return check("unusable", segment.unusable, 1);
}

Result<kvm_sregs> restore_sregs(RecordReader reader) {
    const auto sregs = TRY(reader.structure<kvm_sregs>("registers"));
    TRY(reader.finish());
    const struct {
        const char* name;
        const kvm_segment& segment;
    } segments[] = {{"cs", sregs.cs}, {"ds", sregs.ds}, {"es", sregs.es}, {"fs", sregs.fs},
                    {"gs", sregs.gs}, {"ss", sregs.ss}, {"tr", sregs.tr}, {"ldt", sregs.ldt}};
    for (const auto& [name, segment] : segments) TRY(check_segment(reader, name, segment));
    TRY(reader.check_range("cr8", sregs.cr8, 0, 15));
    int pending = 0;
    for (const uint64_t word : sregs.interrupt_bitmap) pending += std::popcount(word);
    TRY(reader.check_range("interrupt_bitmap", static_cast<uint64_t>(pending), 0, 1));
    return sregs;
}

Result<kvm_debugregs> restore_debug_registers(RecordReader reader) {
    const auto registers = TRY(reader.structure<kvm_debugregs>("registers"));
    TRY(reader.finish());
    TRY(reader.check_range("dr6", registers.dr6, 0, UINT32_MAX));
    TRY(reader.check_range("dr7", registers.dr7, 0, UINT32_MAX));
    TRY(reader.check_range("flags", registers.flags, 0, 0));
    return registers;
}

Result<kvm_vcpu_events> restore_events(RecordReader reader) {
    const auto events = TRY(reader.structure<kvm_vcpu_events>("events"));
    TRY(reader.finish());
    constexpr uint32_t kKnown = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
                                KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_PAYLOAD |
                                KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
    if (events.flags & ~kKnown) return reader.refuse("flags", "0x%x are not known", events.flags & ~kKnown);
    TRY(reader.check_range("exception.injected", events.exception.injected, 0, 1));
    TRY(reader.check_range("exception.pending", events.exception.pending, 0, 1));
    TRY(reader.check_range("exception.nr", events.exception.nr, 0, 31));
    TRY(reader.check_range("exception.has_error_code", events.exception.has_error_code, 0, 1));
    TRY(reader.check_range("interrupt.injected", events.interrupt.injected, 0, 1));
    TRY(reader.check_range("interrupt.soft", events.interrupt.soft, 0, 1));
    TRY(reader.check_range("interrupt.shadow", events.interrupt.shadow, 0,
                           KVM_X86_SHADOW_INT_MOV_SS | KVM_X86_SHADOW_INT_STI));
    TRY(reader.check_range("nmi.injected", events.nmi.injected, 0, 1));
    TRY(reader.check_range("nmi.masked", events.nmi.masked, 0, 1));
    TRY(reader.check_range("sipi_vector", events.sipi_vector, 0, 255));
    return events;
}

}  // namespace

// Reading changes some of the state, so what changes is read first: KVM_GET_MP_STATE takes an INIT or SIPI that waits
// (kvm_apic_accept_events), which may reset the registers; KVM_GET_LAPIC merges interrupts that were posted to the CPU
// (sync_pir_to_irr). The time stamp counter and the deadline timer are MSRs, read last of what moves.
Result<VcpuState> VcpuState::capture(const VcpuFd& vcpu, std::span<const uint32_t> msr_indices, size_t xsave_size) {
    VcpuState state;
    state.mp_state = TRY(vcpu.mp_state());
    state.regs = TRY(vcpu.regs());
    state.sregs = TRY(vcpu.sregs());
    state.xsave = TRY(vcpu.xsave(xsave_size));
    state.xcrs = TRY(vcpu.xcrs());
    state.debug_registers = TRY(vcpu.debug_registers());
    state.lapic = TRY(vcpu.lapic());
    state.events = TRY(vcpu.events());
    state.cpuid = TRY(vcpu.cpuid());
    state.tsc_khz = TRY(vcpu.tsc_khz());
    state.msrs = TRY(read_msrs(vcpu, msr_indices));
    return state;
}

// Each step needs those before it. Sources: arch/x86/kvm/x86.c and lapic.c of Linux.
//  1. CPUID: the calls that follow check bits of CR4, EFER, XCR0 and MSRs against it. It cannot change after KVM_RUN.
//  2. The rate of the TSC, before the counter's value, which KVM turns into an offset at that rate. Equal rates are not
//     set: hosts without scaling refuse the call.
//  3. SREGS, with the APIC base: LAPIC and MSRs of x2APIC mode are refused while it is off.
//  4. REGS after SREGS: KVM_SET_SREGS looks at no register, but both drop what waits to be delivered.
//  5. XCR0 and XSAVE, debug registers: no order among them.
//  6. MSRs without the deadline.
//  7. LAPIC: KVM_SET_LAPIC disarms the timer and starts it anew from the register page, in the mode that this names.
//  8. The deadline: the MSR is ignored while the LAPIC's timer is not in that mode (kvm_set_lapic_tscdeadline_msr), and
//     is compared with the TSC of step 6.
//  9. Events after REGS and SREGS, which drop a pending exception and queue an interrupt.
// 10. MP state last: KVM_SET_SREGS makes the boot CPU runnable if it looks as after a reset, and LAPIC and events hold
//     the INIT and SIPI that this state waits for.
Result<std::vector<uint32_t>> VcpuState::apply(const VcpuFd& vcpu, size_t xsave_size) const {
    if (xsave.size() > xsave_size)
        return fail("xsave: %zu bytes, this host has %zu: it lacks a CPU feature of the guest", xsave.size(),
                    xsave_size);
    TRY(vcpu.set_cpuid(cpuid));
    if (TRY(vcpu.tsc_khz()) != tsc_khz) TRY_CONTEXT("TSC scaling", vcpu.set_tsc_khz(tsc_khz));
    TRY(vcpu.set_sregs(sregs));
    TRY(vcpu.set_regs(regs));
    if (xcrs.nr_xcrs > 0) TRY(vcpu.set_xcrs(xcrs));
    std::vector<std::byte> padded(xsave_size);  // KVM reads as many bytes as this host has
    std::ranges::copy(xsave, padded.begin());
    TRY(vcpu.set_xsave(padded));
    TRY(vcpu.set_debug_registers(debug_registers));
    auto first = msrs;
    const auto deadline =
        std::ranges::stable_partition(first, [](const MsrValue& msr) { return msr.index != kMsrTscDeadline; });
    auto skipped = TRY(write_msrs(vcpu, std::span(first.begin(), deadline.begin())));
    TRY(vcpu.set_lapic(lapic));
    for (const uint32_t index : TRY(write_msrs(vcpu, deadline))) skipped.push_back(index);
    TRY(vcpu.set_events(events));
    TRY(vcpu.set_mp_state(mp_state));
    return skipped;
}

void VcpuState::save(RecordWriter& writer) const {
    const auto leaf = [&](const RecordType& type, auto fields) {
        const auto scope = writer.leaf(type);
        fields();
    };
    leaf(kCpuid, [&] { save_cpuid(writer, cpuid); });
    leaf(kTsc, [&] { writer.u32(tsc_khz); });
    leaf(kSregs, [&] { writer.structure(sregs); });
    leaf(kRegs, [&] { writer.structure(regs); });
    leaf(kXcrs, [&] { save_xcrs(writer, xcrs); });
    leaf(kXsave, [&] { writer.blob(xsave); });
    leaf(kDebug, [&] { writer.structure(debug_registers); });
    leaf(kMsrs, [&] { save_msrs(writer, msrs); });
    leaf(kLapic, [&] { writer.structure(lapic); });
    leaf(kEvents, [&] { writer.structure(events); });
    leaf(kMpState, [&] { writer.u32(mp_state); });
}

Result<VcpuState> VcpuState::restore(RecordReader& reader) {
    VcpuState state;
    state.cpuid = TRY(restore_cpuid(TRY(reader.record(kCpuid))));
    auto tsc = TRY(reader.record(kTsc));
    state.tsc_khz = TRY(tsc.u32("khz", kMinTscKhz, kMaxTscKhz));
    TRY(tsc.finish());
    state.sregs = TRY(restore_sregs(TRY(reader.record(kSregs))));
    auto regs = TRY(reader.record(kRegs));
    state.regs = TRY(regs.structure<kvm_regs>("registers"));
    TRY(regs.finish());
    state.xcrs = TRY(restore_xcrs(TRY(reader.record(kXcrs))));
    auto xsave = TRY(reader.record(kXsave));
    const auto area = TRY(xsave.blob("area", kMaxXsave));
    TRY(xsave.check_range("size", area.size(), sizeof(kvm::XsaveArea), kMaxXsave));
    TRY(xsave.finish());
    state.xsave.assign(area.begin(), area.end());
    state.debug_registers = TRY(restore_debug_registers(TRY(reader.record(kDebug))));
    state.msrs = TRY(restore_msrs(TRY(reader.record(kMsrs))));
    auto lapic = TRY(reader.record(kLapic));
    state.lapic = TRY(lapic.structure<kvm_lapic_state>("registers"));
    TRY(lapic.finish());
    state.events = TRY(restore_events(TRY(reader.record(kEvents))));
    auto mp_state = TRY(reader.record(kMpState));
    state.mp_state = TRY(mp_state.u32("state", KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_SIPI_RECEIVED));
    TRY(mp_state.finish());
    TRY(reader.finish());
    return state;
}

}  // namespace wisp
