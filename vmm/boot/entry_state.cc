// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/entry_state.h"

#include <array>

#include "base/check.h"
#include "base/endian.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/load/place.h"

namespace wisp::boot {

namespace {

// Control registers (Intel SDM volume 3, sections 2.2.1 and 2.5)
constexpr uint64_t kCr0ProtectedMode = 1ull << 0;
constexpr uint64_t kCr0ExtensionType = 1ull << 4;  // always 1
constexpr uint64_t kCr0Paging = 1ull << 31;
constexpr uint64_t kCr4Pae = 1ull << 5;
constexpr uint64_t kEferLongModeEnable = 1ull << 8;
constexpr uint64_t kEferLongModeActive = 1ull << 10;
constexpr uint64_t kFlagsAlwaysSet = 1ull << 1;

// Page table entries (section 4.5)
constexpr uint64_t kPresentWritable = 0x3;
constexpr uint64_t kLargePage = 1ull << 7;
constexpr uint64_t kLargePageSize = 2 << 20;

// Flat 4 GiB descriptors (section 3.4.5); accessed, so that the processor need not write that.
constexpr uint64_t kCode64 = 0x00af9b000000ffff;
constexpr uint64_t kCode32 = 0x00cf9b000000ffff;
constexpr uint64_t kData = 0x00cf93000000ffff;
// __BOOT_CS and __BOOT_DS of the boot protocol.
constexpr uint16_t kCodeSelector = 0x10;
constexpr uint16_t kDataSelector = 0x18;

constexpr uint64_t code_descriptor(BootProtocol protocol) {
    return protocol == BootProtocol::kLinux64 ? kCode64 : kCode32;
}

/// What the processor caches of a flat segment when its selector is loaded.
kvm_segment flat_segment(uint16_t selector, uint64_t descriptor) {
    kvm_segment segment{};
    segment.selector = selector;
    segment.limit = 0xffffffff;
    segment.type = descriptor >> 40 & 0xf;
    segment.s = descriptor >> 44 & 1;
    segment.dpl = descriptor >> 45 & 3;
    segment.present = descriptor >> 47 & 1;
    segment.l = descriptor >> 53 & 1;
    segment.db = descriptor >> 54 & 1;
    segment.g = descriptor >> 55 & 1;
    return segment;
}

/// VM entry wants a busy task state segment, though nothing switches tasks.
kvm_segment task_segment() {
    kvm_segment segment{};
    segment.limit = 0x67;
    segment.type = 0xb;
    segment.present = 1;
    return segment;
}

Result<void> write_page_tables(const GuestMemory& memory) {
    TRY(place(memory, kPml4, le64(kPdpt.value | kPresentWritable), "page tables"));
    TRY(place(memory, kPdpt, le64(kPageDirectory.value | kPresentWritable), "page tables"));
    std::array<le64, kIdentityMapEnd / kLargePageSize> directory;
    for (uint64_t i = 0; i < directory.size(); ++i) directory[i] = i * kLargePageSize | kPresentWritable | kLargePage;
    static_assert(sizeof directory == 4096);
    return place(memory, kPageDirectory, directory, "page tables");
}

}  // namespace

Result<void> write_entry_tables(const GuestMemory& memory, BootProtocol protocol) {
    // The second entry is code too, because guests made for other monitors may return to selector 8.
    const std::array<le64, 4> gdt{0, code_descriptor(protocol), code_descriptor(protocol), kData};
    static_assert(kGdtStart.value + sizeof gdt <= kIdtStart.value);
    TRY(place(memory, kGdtStart, gdt, "GDT"));
    if (protocol == BootProtocol::kLinux64) TRY(write_page_tables(memory));
    return {};
}

kvm_regs entry_registers(BootProtocol protocol, GuestAddress entry) {
    kvm_regs registers{};
    registers.rip = entry.value;
    registers.rflags = kFlagsAlwaysSet;  // interrupts off, as both protocols demand
    if (protocol == BootProtocol::kLinux64) {
        registers.rsi = kZeroPage.value;
        registers.rsp = kBootStack.value;
        registers.rbp = kBootStack.value;
    } else {
        registers.rbx = kPvhStartInfo.value;
    }
    return registers;
}

void set_entry_sregs(BootProtocol protocol, kvm_sregs& sregs) {
    sregs.cs = flat_segment(kCodeSelector, code_descriptor(protocol));
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat_segment(kDataSelector, kData);
    sregs.tr = task_segment();
    sregs.gdt = {.base = kGdtStart.value, .limit = 4 * 8 - 1, .padding = {}};
    // No vectors: an exception before the kernel has its own handlers is a triple fault, which ends the VM.
    sregs.idt = {.base = kIdtStart.value, .limit = 0, .padding = {}};

    sregs.cr0 = kCr0ProtectedMode | kCr0ExtensionType;
    sregs.cr3 = 0;
    sregs.cr4 = 0;
    sregs.efer = 0;
    if (protocol == BootProtocol::kLinux64) {
        sregs.cr0 |= kCr0Paging;
        sregs.cr3 = kPml4.value;
        sregs.cr4 = kCr4Pae;
        sregs.efer = kEferLongModeEnable | kEferLongModeActive;
    }
}

}  // namespace wisp::boot
