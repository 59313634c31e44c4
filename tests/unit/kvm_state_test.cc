// SPDX-License-Identifier: Apache-2.0
//
// The state of a vCPU and of a VM: its records without KVM, and [kvm] a round trip through two VMs.
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstring>
#include <functional>

#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vcpu_state.h"
#include "vmm/kvm/vm_state.h"

using namespace wisp;

namespace {

using Bytes = std::vector<std::byte>;

template <class State>
Bytes saved(const State& state) {
    RecordWriter writer;
    {
        const auto scope = writer.group(State::kRecord);
        state.save(writer);
    }
    return writer.take();
}

template <class State>
Result<State> restored(const Bytes& bytes) {
    auto reader = TRY(RecordReader::open(bytes, State::kRecord));
    return State::restore(reader);
}

template <class T>
bool same_bytes(const T& a, const T& b) {
    return memcmp(&a, &b, sizeof a) == 0;
}

VcpuState vcpu_state() {
    VcpuState state;
    state.cpuid = {{.function = 1, .index = 0, .flags = 0, .eax = 1, .ebx = 2, .ecx = 3, .edx = 4, .padding = {}},
                   {.function = 7, .index = 1, .flags = 1, .eax = 5, .ebx = 6, .ecx = 7, .edx = 8, .padding = {}}};
    state.tsc_khz = 2'400'000;
    state.sregs.cs.base = 0x1000;
    state.sregs.cs.type = 11;
    state.sregs.cr3 = 0x9000;
    state.sregs.cr8 = 15;
    state.sregs.interrupt_bitmap[1] = 4;
    state.regs.rip = 0xffffffff81000000;
    state.regs.r15 = 15;
    state.xcrs.nr_xcrs = 1;
    state.xcrs.xcrs[0].value = 7;
    state.xsave.resize(8192, std::byte{0x5a});
    state.debug_registers.db[2] = 0x1234;
    state.debug_registers.dr6 = 0xffff0ff0;
    state.msrs = {{0x10, 123}, {0x6e0, 456}};
    state.lapic.regs[0x20] = 3;
    state.events.nmi.pending = 1;
    state.events.sipi_vector = 0x9f;
    state.mp_state = KVM_MP_STATE_HALTED;
    return state;
}

VmState vm_state() {
    VmState state;
    for (uint32_t i = 0; i < 3; ++i) state.irqchips[i].chip_id = i;
    state.irqchips[0].chip.pic.imr = 0xff;
    state.irqchips[1].chip.pic.init_state = 3;
    state.irqchips[2].chip.ioapic.redirtbl[4].bits = 0x10000;
    state.irqchips[2].chip.ioapic.id = 2;
    state.clock.clock = 1'000'000;
    state.clock.flags = KVM_CLOCK_REALTIME;
    state.clock.realtime = 1'700'000'000'000'000'000;
    state.pit.emplace();
    state.pit->channels[0].count = 0x10000;
    state.pit->channels[2].mode = 3;
    return state;
}

/// What restoring says about a state that `change` has put out of range.
template <class State>
std::string refusal(State state, const std::function<void(State&)>& change) {
    change(state);
    const auto got = restored<State>(saved(state));
    return got ? "accepted" : got.error().message;
}

}  // namespace

TEST_CASE("a vCPU's state comes back from its records", "[state]") {
    const VcpuState before = vcpu_state();
    const auto after = restored<VcpuState>(saved(before));
    REQUIRE(after.has_value());
    CHECK(saved(*after) == saved(before));
    CHECK(after->cpuid.size() == 2);
    CHECK(after->msrs == before.msrs);
    CHECK(after->xsave == before.xsave);
    CHECK(same_bytes(after->sregs, before.sregs));
    CHECK(same_bytes(after->lapic, before.lapic));
    CHECK(after->mp_state == before.mp_state);
}

TEST_CASE("a VM's state comes back from its records", "[state]") {
    VmState before = vm_state();
    for (int i = 0; i < 2; ++i, before.pit.reset()) {
        const auto after = restored<VmState>(saved(before));
        REQUIRE(after.has_value());
        CHECK(saved(*after) == saved(before));
        CHECK(after->pit.has_value() == before.pit.has_value());
        CHECK(after->irqchips[2].chip_id == KVM_IRQCHIP_IOAPIC);
        CHECK(after->clock.realtime == before.clock.realtime);
    }
}

TEST_CASE("fields of a vCPU that are out of range are refused by name", "[state]") {
    const struct {
        std::function<void(VcpuState&)> change;
        const char* message;
    } cases[] = {
        {[](VcpuState& s) { s.cpuid.clear(); }, "vcpu.cpuid.count: 0 is out of range, 1 to 256"},
        {[](VcpuState& s) { s.cpuid[1].flags = 8; }, "vcpu.cpuid.flags: 8 is out of range, 0 to 1"},
        {[](VcpuState& s) { s.tsc_khz = 0; }, "vcpu.tsc.khz: 0 is out of range, 1000 to 100000000"},
        {[](VcpuState& s) { s.sregs.tr.type = 16; }, "vcpu.sregs.tr.type: 16 is out of range, 0 to 15"},
        {[](VcpuState& s) { s.sregs.ldt.unusable = 2; }, "vcpu.sregs.ldt.unusable: 2 is out of range, 0 to 1"},
        {[](VcpuState& s) { s.sregs.cr8 = 16; }, "vcpu.sregs.cr8: 16 is out of range, 0 to 15"},
        {[](VcpuState& s) { s.sregs.interrupt_bitmap[3] = 1; },
         "vcpu.sregs.interrupt_bitmap: 2 is out of range, 0 to 1"},
        {[](VcpuState& s) { s.xcrs.xcrs[0].xcr = 1; }, "vcpu.xcrs.number: 1 is out of range, 0 to 0"},
        {[](VcpuState& s) { s.xsave.resize(512); }, "vcpu.xsave.size: 512 is out of range, 4096 to 65536"},
        {[](VcpuState& s) { s.xsave.resize(65537); }, "vcpu.xsave.area: 65537 bytes, at most 65536 are allowed"},
        {[](VcpuState& s) { s.debug_registers.dr7 = 1ull << 40; },
         "vcpu.debug_registers.dr7: 1099511627776 is out of range, 0 to 4294967295"},
        {[](VcpuState& s) { s.debug_registers.flags = 1; }, "vcpu.debug_registers.flags: 1 is out of range, 0 to 0"},
        {[](VcpuState& s) { s.msrs.resize(4097); }, "vcpu.msrs.count: 4097 is out of range, 0 to 4096"},
        {[](VcpuState& s) { s.events.exception.nr = 32; }, "vcpu.events.exception.nr: 32 is out of range, 0 to 31"},
        {[](VcpuState& s) { s.events.interrupt.shadow = 4; },
         "vcpu.events.interrupt.shadow: 4 is out of range, 0 to 3"},
        {[](VcpuState& s) { s.events.flags = 0x100; }, "vcpu.events.flags: 0x100 are not known"},
        {[](VcpuState& s) { s.events.sipi_vector = 256; }, "vcpu.events.sipi_vector: 256 is out of range, 0 to 255"},
        {[](VcpuState& s) { s.mp_state = 5; }, "vcpu.mp_state.state: 5 is out of range, 0 to 4"},
    };
    for (const auto& [change, message] : cases) CHECK(refusal<VcpuState>(vcpu_state(), change) == message);
}

TEST_CASE("fields of a VM that are out of range are refused by name", "[state]") {
    const struct {
        std::function<void(VmState&)> change;
        const char* message;
    } cases[] = {
        {[](VmState& s) { s.irqchips[0].chip.pic.priority_add = 8; },
         "kvm.pic[0].priority_add: 8 is out of range, 0 to 7"},
        {[](VmState& s) { s.irqchips[1].chip.pic.init_state = 4; }, "kvm.pic[1].init_state: 4 is out of range, 0 to 3"},
        {[](VmState& s) { s.irqchips[2].chip.ioapic.id = 16; }, "kvm.ioapic.id: 16 is out of range, 0 to 15"},
        {[](VmState& s) { s.irqchips[2].chip.ioapic.irr = 1u << 24; },
         "kvm.ioapic.irr: 16777216 is out of range, 0 to 16777215"},
        {[](VmState& s) { s.clock.clock = UINT64_MAX; },
         "kvm.clock.ns: 18446744073709551615 is out of range, 0 to 9223372036854775808"},
        {[](VmState& s) { s.pit->channels[1].mode = 6; }, "kvm.pit.channel[1].mode: 6 is out of range, 0 to 5"},
        {[](VmState& s) { s.pit->channels[0].count = 0x10001; },
         "kvm.pit.channel[0].count: 65537 is out of range, 0 to 65536"},
        {[](VmState& s) { s.pit->flags = 4; }, "kvm.pit.flags: 4 is out of range, 0 to 3"},
    };
    for (const auto& [change, message] : cases) CHECK(refusal<VmState>(vm_state(), change) == message);
}

TEST_CASE("a vCPU's state cut short at any byte is refused", "[state]") {
    const Bytes bytes = saved(vcpu_state());
    for (size_t size = 0; size < bytes.size(); size += size < 600 ? 1 : 97)
        CHECK_FALSE(restored<VcpuState>(Bytes(bytes.begin(), bytes.begin() + static_cast<long>(size))).has_value());
}

TEST_CASE("an MSR of 0, or one that the guest cannot see, is harmless where a host lacks it", "[state]") {
    CHECK(is_harmless_without({0xc0000102, 0}));
    CHECK(is_harmless_without({0x3a, 5}));
    CHECK(is_harmless_without({0xc0010200, 5}));
    CHECK_FALSE(is_harmless_without({0xc0000102, 5}));
}

// --- with KVM

namespace {

/// A VM with a page of memory, an irqchip and vCPUs that show all that KVM can give.
struct TestVm {
    GuestMemory memory;
    Vm vm;
    std::vector<VcpuFd> vcpus;
};

TestVm test_vm(const Kvm& kvm, unsigned vcpu_count) {
    const GuestMemory::Range range[] = {{GuestAddress{0}, 1 << 20}};
    TestVm made{*GuestMemory::create(range, GuestMemory::Pages::kNormal), *kvm.create_vm(), {}};
    REQUIRE(made.vm.set_tss_address(0xfffbd000).has_value());
    REQUIRE(made.vm.set_memory_slot(0, made.memory.regions()[0], Vm::DirtyLog::kOff).has_value());
    REQUIRE(made.vm.create_irqchip().has_value());
    for (unsigned id = 0; id < vcpu_count; ++id) made.vcpus.push_back(*made.vm.create_vcpu(id));
    return made;
}

std::vector<MsrValue> without_time(std::vector<MsrValue> msrs) {
    std::erase_if(msrs, [](const MsrValue& msr) { return msr.index == kMsrTsc; });
    return msrs;
}

}  // namespace

TEST_CASE("the state of two vCPUs and their VM is the same in a second VM", "[state][kvm]") {
    const Kvm kvm = *Kvm::open();
    const auto indices = *saved_msrs(kvm);
    CHECK(indices.size() > 20);
    TestVm first = test_vm(kvm, 2);
    const size_t xsave_size = first.vm.xsave_size();
    const CpuidTable cpuid = *kvm.supported_cpuid();
    for (unsigned id = 0; id < 2; ++id) {
        const VcpuFd& vcpu = first.vcpus[id];
        REQUIRE(vcpu.set_cpuid(cpuid).has_value());
        REQUIRE(vcpu.set_xcr0(cpuid).has_value());
        kvm_sregs sregs = *vcpu.sregs();
        sregs.cr3 = 0x3000 + id;
        sregs.cr8 = 3;
        sregs.fs.base = 0x123456;
        REQUIRE(vcpu.set_sregs(sregs).has_value());
        kvm_regs regs{};
        regs.rip = 0x7c00;
        regs.rflags = 2;
        regs.rax = 0xa0 + id;
        regs.r15 = 0xf0 + id;
        REQUIRE(vcpu.set_regs(regs).has_value());
        const kvm_msr_entry msrs[] = {{0x174, 0, 0x10}, {0x175, 0, 0x8000 + id}, {0x277, 0, 0x0007040600070406}};
        REQUIRE(vcpu.set_msrs(msrs).has_value());
        kvm_debugregs debug = *vcpu.debug_registers();
        debug.db[1] = 0x4444;
        REQUIRE(vcpu.set_debug_registers(debug).has_value());
        kvm_lapic_state lapic = *vcpu.lapic();
        memcpy(lapic.regs + 0xf0, "\xff\x01\x00\x00", 4);   // spurious vector 255, APIC on
        memcpy(lapic.regs + 0x350, "\x00\x04\x00\x00", 4);  // LINT0: NMI
        REQUIRE(vcpu.set_lapic(lapic).has_value());
    }
    REQUIRE(first.vcpus[1].set_mp_state(KVM_MP_STATE_HALTED).has_value());
    kvm_irqchip ioapic = *first.vm.irqchip(KVM_IRQCHIP_IOAPIC);
    ioapic.chip.ioapic.redirtbl[5].bits = 0x10031;
    REQUIRE(first.vm.set_irqchip(ioapic).has_value());
    REQUIRE(first.vm.create_pit().has_value());
    kvm_clock_data clock{};
    clock.clock = 5'000'000'000'000;
    REQUIRE(first.vm.set_clock(clock).has_value());

    Bytes vcpus[2];
    for (unsigned id = 0; id < 2; ++id) {
        const auto state = VcpuState::capture(first.vcpus[id], indices, xsave_size);
        INFO((state ? "" : state.error().message));
        REQUIRE(state.has_value());
        vcpus[id] = saved(*state);
    }
    const auto vm = VmState::capture(first.vm);
    REQUIRE(vm.has_value());
    CHECK(vm->pit.has_value());
    const Bytes vm_bytes = saved(*vm);

    TestVm second = test_vm(kvm, 2);
    for (unsigned id = 0; id < 2; ++id) {
        const auto read = restored<VcpuState>(vcpus[id]);
        INFO((read ? "" : read.error().message));
        REQUIRE(read.has_value());
        const VcpuState& wanted = *read;
        const auto applied = wanted.apply(second.vcpus[id], xsave_size);
        INFO((applied ? "" : applied.error().message));
        REQUIRE(applied.has_value());
        for (const uint32_t msr : *applied) WARN(format("this host does not take MSR 0x%x", msr));
        const VcpuState got = *VcpuState::capture(second.vcpus[id], indices, xsave_size);
        CHECK(same_bytes(got.regs, wanted.regs));
        CHECK(same_bytes(got.sregs, wanted.sregs));
        CHECK(got.xsave == wanted.xsave);
        CHECK(same_bytes(got.debug_registers, wanted.debug_registers));
        CHECK(same_bytes(got.events, wanted.events));
        CHECK(got.mp_state == wanted.mp_state);
        CHECK(got.tsc_khz == wanted.tsc_khz);
        CHECK(got.xcrs.xcrs[0].value == wanted.xcrs.xcrs[0].value);
        CHECK(same_bytes(got.lapic, wanted.lapic));
        CHECK(without_time(got.msrs) == without_time(wanted.msrs));
        CHECK(*second.vcpus[id].msr(kMsrTsc) >= std::ranges::find(wanted.msrs, kMsrTsc, &MsrValue::index)->value);
    }
    const auto vm_state = restored<VmState>(vm_bytes);
    INFO((vm_state ? "" : vm_state.error().message));
    REQUIRE(vm_state.has_value());
    const auto applied = vm_state->apply(second.vm, VmState::Time::kContinue);
    INFO((applied ? "" : applied.error().message));
    REQUIRE(applied.has_value());
    const VmState got = *VmState::capture(second.vm);
    for (uint32_t chip = 0; chip < 3; ++chip) CHECK(same_bytes(got.irqchips[chip], vm->irqchips[chip]));
    CHECK(got.pit.has_value());
    CHECK(got.clock.clock >= vm->clock.clock);
    CHECK(got.clock.clock < vm->clock.clock + 600'000'000'000);
}

TEST_CASE("a VM that has no i8254 is saved without one", "[state][kvm]") {
    const Kvm kvm = *Kvm::open();
    const TestVm made = test_vm(kvm, 1);
    const auto state = VmState::capture(made.vm);
    REQUIRE(state.has_value());
    CHECK_FALSE(state->pit.has_value());
}

TEST_CASE("an MSR that this host does not have is named, or skipped where it is harmless", "[state][kvm]") {
    const Kvm kvm = *Kvm::open();
    const TestVm made = test_vm(kvm, 1);
    const VcpuFd& vcpu = made.vcpus[0];
    REQUIRE(vcpu.set_cpuid(*kvm.supported_cpuid()).has_value());
    const MsrValue unknown[] = {{0x174, 8}, {0x12345678, 7}, {0x175, 9}};
    CHECK(write_msrs(vcpu, unknown).error().message == "KVM_SET_MSRS: this host does not take MSR 0x12345678 with 0x7");
    const MsrValue zero[] = {{0x174, 18}, {0x12345678, 0}, {0x175, 19}};
    const auto skipped = write_msrs(vcpu, zero);
    REQUIRE(skipped.has_value());
    CHECK((*skipped == std::vector<uint32_t>{0x12345678}));
    CHECK(vcpu.msr(0x174) == 18);
    CHECK(vcpu.msr(0x175) == 19);
    const uint32_t indices[] = {0x174, 0x12345678, 0x175};
    const auto values = read_msrs(vcpu, indices);
    REQUIRE(values.has_value());
    CHECK((*values == std::vector<MsrValue>{{0x174, 18}, {0x175, 19}}));
}

TEST_CASE("a pause is told to kvmclock, and a guest without kvmclock has none to tell", "[state][kvm]") {
    const Kvm kvm = *Kvm::open();
    const TestVm made = test_vm(kvm, 1);
    CHECK_FALSE(made.vcpus[0].note_pause());
    REQUIRE(made.vcpus[0].set_cpuid(*kvm.supported_cpuid()).has_value());
    const kvm_msr_entry system_time[] = {{0x4b564d01, 0, 0x1000 | 1}};
    REQUIRE(made.vcpus[0].set_msrs(system_time).has_value());
    CHECK(made.vcpus[0].note_pause());
}

TEST_CASE("the dirty log of a slot that nothing wrote is empty", "[state][kvm]") {
    const Kvm kvm = *Kvm::open();
    const TestVm made = test_vm(kvm, 1);
    uint64_t bitmap[4] = {};
    CHECK(made.vm.get_dirty_log(0, bitmap).error().message.starts_with("KVM_GET_DIRTY_LOG"));  // the slot has no log
    const Vm other = *kvm.create_vm();
    REQUIRE(other.set_memory_slot(0, made.memory.regions()[0], Vm::DirtyLog::kOn).has_value());
    bitmap[0] = UINT64_MAX;
    REQUIRE(other.get_dirty_log(0, bitmap).has_value());
    CHECK(bitmap[0] == 0);
}
