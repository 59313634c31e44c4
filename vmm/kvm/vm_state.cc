// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vm_state.h"

#include <cerrno>
#include <cstring>
#include <string>

namespace wisp {

namespace {

constexpr RecordType kPic{"pic ", "pic", 1, Need::kRequired};
constexpr RecordType kIoapic{"ioap", "ioapic", 1, Need::kRequired};
constexpr RecordType kClock{"clck", "clock", 1, Need::kRequired};
constexpr RecordType kPit{"pit ", "pit", 1, Need::kRequired};

// Nanoseconds: 500 years. KVM adds to them without a check.
constexpr uint64_t kMaxClock_ns = uint64_t{1} << 63;

/// The numbers of an i8259 that index or count (arch/x86/kvm/i8259.c).
Result<void> check_pic(const RecordReader& reader, const kvm_pic_state& pic) {
    TRY(reader.check_range("priority_add", pic.priority_add, 0, 7));
    TRY(reader.check_range("read_reg_select", pic.read_reg_select, 0, 1));
    TRY(reader.check_range("poll", pic.poll, 0, 1));
    TRY(reader.check_range("special_mask", pic.special_mask, 0, 1));
    TRY(reader.check_range("init_state", pic.init_state, 0, 3));
    TRY(reader.check_range("auto_eoi", pic.auto_eoi, 0, 1));
    TRY(reader.check_range("rotate_on_auto_eoi", pic.rotate_on_auto_eoi, 0, 1));
    TRY(reader.check_range("special_fully_nested_mode", pic.special_fully_nested_mode, 0, 1));
    return reader.check_range("init4", pic.init4, 0, 1);
}

Result<void> check_ioapic(const RecordReader& reader, const kvm_ioapic_state& ioapic) {
    TRY(reader.check_range("id", ioapic.id, 0, 15));
    TRY(reader.check_range("ioregsel", ioapic.ioregsel, 0, 255));
    return reader.check_range("irr", ioapic.irr, 0, (1u << KVM_IOAPIC_NUM_PINS) - 1);
}

Result<void> check_channel(const RecordReader& reader, const std::string& name, const kvm_pit_channel_state& channel) {
    const auto check = [&](const char* field, uint64_t value, uint64_t max) {
        return reader.check_range((name + "." + field).c_str(), value, 0, max);
    };
    constexpr uint8_t kLastWordState = 4;  // RW_STATE_WORD1 (arch/x86/kvm/i8254.h)
    constexpr uint8_t kNoMode = 0xff;      // until the guest programs the channel
    TRY(check("count", channel.count, 0x10000));
    TRY(check("count_latched", channel.count_latched, kLastWordState));
    TRY(check("status_latched", channel.status_latched, 1));
    TRY(check("read_state", channel.read_state, kLastWordState));
    TRY(check("write_state", channel.write_state, kLastWordState));
    TRY(check("rw_mode", channel.rw_mode, kLastWordState));
    if (channel.mode != kNoMode) TRY(check("mode", channel.mode, 5));
    TRY(check("bcd", channel.bcd, 1));
    return check("gate", channel.gate, 1);
}

Result<kvm_pit_state2> restore_pit(RecordReader reader) {
    const auto pit = TRY(reader.structure<kvm_pit_state2>("state"));
    TRY(reader.finish());
    for (size_t i = 0; i < std::size(pit.channels); ++i)
        TRY(check_channel(reader, format("channel[%zu]", i), pit.channels[i]));
    TRY(reader.check_range("flags", pit.flags, 0, KVM_PIT_FLAGS_HPET_LEGACY | KVM_PIT_FLAGS_SPEAKER_DATA_ON));
    return pit;
}

Result<kvm_clock_data> restore_clock(RecordReader reader) {
    kvm_clock_data clock{};
    clock.clock = TRY(reader.u64("ns", 0, kMaxClock_ns));
    if (TRY(reader.boolean("has_host_clock"))) clock.flags = KVM_CLOCK_REALTIME;
    clock.realtime = TRY(reader.u64("host_ns", 0, kMaxClock_ns));
    TRY(reader.finish());
    return clock;
}

}  // namespace

Result<VmState> VmState::capture(const Vm& vm) {
    VmState state;
    state.clock = TRY(vm.clock());
    for (uint32_t chip = 0; chip < state.irqchips.size(); ++chip) state.irqchips[chip] = TRY(vm.irqchip(chip));
    if (auto pit = vm.pit())
        state.pit = *pit;
    else if (pit.error().errno_value != ENXIO)  // ENXIO: this guest made none
        return std::unexpected(std::move(pit).error());
    return state;
}

// After the vCPUs. KVM_SET_IRQCHIP of the IOAPIC delivers what waits in it to the local APICs at once
// (kvm_ioapic_inject_all): restored later, they would lose it. KVM_SET_CLOCK is taken against the TSCs of the vCPUs.
Result<void> VmState::apply(const Vm& vm, Time time) const {
    if (pit) {
        TRY(vm.create_pit());
        TRY(vm.set_pit(*pit));
    }
    for (const kvm_irqchip& chip : irqchips) TRY(vm.set_irqchip(chip));
    kvm_clock_data wanted{};
    wanted.clock = clock.clock;
    if (time == Time::kAdvance) {
        if (!(clock.flags & KVM_CLOCK_REALTIME))
            return fail("the clock cannot be advanced: the state has no time of the host that saved it");
        wanted.flags = KVM_CLOCK_REALTIME;
        wanted.realtime = clock.realtime;
    }
    return vm.set_clock(wanted);
}

void VmState::save(RecordWriter& writer) const {
    for (const uint32_t chip : {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE}) {
        const auto scope = writer.leaf(kPic, chip);
        writer.structure(irqchips[chip].chip.pic);
    }
    {
        const auto scope = writer.leaf(kIoapic);
        writer.structure(irqchips[KVM_IRQCHIP_IOAPIC].chip.ioapic);
    }
    {
        const auto scope = writer.leaf(kClock);
        writer.u64(clock.clock);
        writer.boolean(clock.flags & KVM_CLOCK_REALTIME);
        writer.u64(clock.flags & KVM_CLOCK_REALTIME ? clock.realtime : 0);
    }
    if (pit) {
        const auto scope = writer.leaf(kPit);
        writer.structure(*pit);
    }
}

Result<VmState> VmState::restore(RecordReader& reader) {
    VmState state;
    for (const uint32_t chip : {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE}) {
        auto record = TRY(reader.record(kPic, chip));
        state.irqchips[chip].chip_id = chip;
        state.irqchips[chip].chip.pic = TRY(record.structure<kvm_pic_state>("state"));
        TRY(record.finish());
        TRY(check_pic(record, state.irqchips[chip].chip.pic));
    }
    auto ioapic = TRY(reader.record(kIoapic));
    kvm_irqchip& chip = state.irqchips[KVM_IRQCHIP_IOAPIC];
    chip.chip_id = KVM_IRQCHIP_IOAPIC;
    chip.chip.ioapic = TRY(ioapic.structure<kvm_ioapic_state>("state"));
    TRY(ioapic.finish());
    TRY(check_ioapic(ioapic, chip.chip.ioapic));
    state.clock = TRY(restore_clock(TRY(reader.record(kClock))));
    if (auto pit = TRY(reader.optional_record(kPit))) state.pit = TRY(restore_pit(*std::move(pit)));
    TRY(reader.finish());
    return state;
}

}  // namespace wisp
