// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/entry_state.h"

#include <catch2/catch.hpp>

#include "base/endian.h"
#include "base/limits.h"
#include "tests/support/guest.h"
#include "vmm/boot/layout.h"

using namespace wisp;
using namespace wisp::boot;
using namespace wisp::test;

namespace {

/// What KVM gives for a new vCPU, in the fields that matter here.
kvm_sregs reset_sregs() {
    kvm_sregs sregs{};
    sregs.cr0 = 0x60000010;
    sregs.cs.base = 0xffff0000;
    sregs.cs.selector = 0xf000;
    sregs.apic_base = 0xfee00900;
    return sregs;
}

/// Where the page tables take an address below 1 GiB.
uint64_t translate(const GuestMemory& memory, uint64_t cr3, uint64_t address) {
    uint64_t table = cr3;
    for (const unsigned shift : {39, 30}) {
        const uint64_t entry = guest_load<le64>(memory, {table + (address >> shift & 511) * 8});
        REQUIRE((entry & 0x83) == 0x03);
        table = entry & ~0xfffull;
    }
    const uint64_t entry = guest_load<le64>(memory, {table + (address >> 21 & 511) * 8});
    REQUIRE((entry & 0x83) == 0x83);
    return (entry & ~0x1fffffull) | (address & 0x1fffff);
}

}  // namespace

TEST_CASE("boot: the 64-bit entry is in long mode with the first GiB mapped to itself") {
    const GuestMemory memory = machine_memory(2 * limits::kMiB);
    REQUIRE(write_entry_tables(memory, BootProtocol::kLinux64));
    kvm_sregs sregs = reset_sregs();
    set_entry_sregs(BootProtocol::kLinux64, sregs);
    CHECK(sregs.cr0 == 0x80000011);
    CHECK(sregs.cr3 == 0x9000);
    CHECK(sregs.cr4 == 0x20);
    CHECK(sregs.efer == 0x500);
    CHECK(sregs.cs.selector == 0x10);
    CHECK((sregs.cs.l == 1 && sregs.cs.db == 0 && sregs.cs.type == 0xb && sregs.cs.s == 1 && sregs.cs.present == 1));
    CHECK((sregs.ss.selector == 0x18 && sregs.ss.type == 3 && sregs.ss.g == 1 && sregs.ss.limit == 0xffffffff));
    CHECK(sregs.cs.base == 0);
    CHECK((sregs.tr.type == 0xb && sregs.tr.present == 1 && sregs.tr.s == 0));
    CHECK(sregs.apic_base == 0xfee00900);
    for (uint64_t address = 0; address < 1ull << 30; address += 0x1fffff)
        CHECK(translate(memory, sregs.cr3, address) == address);
    // Guests add their own mappings of the MMIO hole here.
    CHECK(guest_load<le64>(memory, {0xa018}) == 0);

    const kvm_regs registers = entry_registers(BootProtocol::kLinux64, {0x1000200});
    CHECK(registers.rip == 0x1000200);
    CHECK(registers.rsi == 0x7000);
    CHECK(registers.rsp == 0x8ff0);
    CHECK(registers.rflags == 2);
}

TEST_CASE("boot: the PVH entry is in 32-bit protected mode without paging") {
    const GuestMemory memory = machine_memory(2 * limits::kMiB);
    REQUIRE(write_entry_tables(memory, BootProtocol::kPvh));
    kvm_sregs sregs = reset_sregs();
    set_entry_sregs(BootProtocol::kPvh, sregs);
    CHECK(sregs.cr0 == 0x11);
    CHECK(sregs.cr4 == 0);
    CHECK(sregs.efer == 0);
    CHECK((sregs.cs.l == 0 && sregs.cs.db == 1 && sregs.cs.base == 0 && sregs.cs.limit == 0xffffffff));
    CHECK((sregs.ds.db == 1 && sregs.ds.type == 3));
    CHECK(sregs.tr.limit == 0x67);
    CHECK(guest_load<le64>(memory, kPml4) == 0);
    const kvm_regs registers = entry_registers(BootProtocol::kPvh, {0x1000040});
    CHECK(registers.rip == 0x1000040);
    CHECK(registers.rbx == 0x6000);
    CHECK(registers.rflags == 2);
}

TEST_CASE("boot: the GDT holds what the segment registers cache") {
    for (const auto protocol : {BootProtocol::kLinux64, BootProtocol::kPvh}) {
        const GuestMemory memory = machine_memory(2 * limits::kMiB);
        REQUIRE(write_entry_tables(memory, protocol));
        kvm_sregs sregs = reset_sregs();
        set_entry_sregs(protocol, sregs);
        CHECK(sregs.gdt.base == 0x500);
        for (const kvm_segment& segment : {sregs.cs, sregs.ds, sregs.ss}) {
            REQUIRE(segment.selector + 7 <= sregs.gdt.limit);
            const uint64_t descriptor = guest_load<le64>(memory, {sregs.gdt.base + segment.selector});
            CHECK((descriptor >> 40 & 0xf) == segment.type);
            CHECK((descriptor >> 47 & 1) == segment.present);
            CHECK((descriptor >> 53 & 1) == segment.l);
            CHECK((descriptor >> 54 & 1) == segment.db);
        }
        CHECK(guest_load<le64>(memory, kGdtStart) == 0);
    }
}
