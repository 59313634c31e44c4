// SPDX-License-Identifier: Apache-2.0
//
// The layout of guest physical memory at boot. The addresses are part of the contract with guests: they are
// Firecracker's, because a guest that was made for it may depend on them (a small guest may change the boot page
// tables).
//
//   0x0000_0500  GDT, IDT                       0x0002_0000  command line
//   0x0000_6000  PVH start info                 0x0009_fc00  end of low RAM: MP table, then ACPI tables
//   0x0000_7000  zero page, or PVH memory map   0x000e_0000  RSDP
//   0x0000_8ff0  boot stack (grows down)        0x000f_fff0  reset vector
//   0x0000_9000  PML4, PDPT, PD                 0x0010_0000  RAM again: the kernel, and the initrd at the top
//                                               0xc000_0000  MMIO hole up to 4 GiB, then the rest of RAM
#pragma once

#include <cstdint>
#include <vector>

#include "base/guest_memory.h"

namespace wisp::boot {

inline constexpr GuestAddress kGdtStart{0x500};
inline constexpr GuestAddress kIdtStart{0x520};
inline constexpr GuestAddress kPvhStartInfo{0x6000};
inline constexpr GuestAddress kPvhModuleList{0x6040};
inline constexpr GuestAddress kPvhMemoryMap{0x7000};
inline constexpr GuestAddress kZeroPage{0x7000};
inline constexpr GuestAddress kBootStack{0x8ff0};
inline constexpr GuestAddress kPml4{0x9000};
inline constexpr GuestAddress kPdpt{0xa000};
inline constexpr GuestAddress kPageDirectory{0xb000};
inline constexpr GuestAddress kCommandLine{0x20000};

/// The system area: memory that the guest's map calls reserved. Firmware tables lie in it.
inline constexpr GuestAddress kSystemArea{0x9fc00};
inline constexpr GuestAddress kMpTable{0x9fc00};  // guests look in the last KiB below 640 (MP spec 1.4, section 4)
inline constexpr GuestAddress kMpTableEnd{0xa0000};
inline constexpr GuestAddress kAcpiTables{0xa0000};
inline constexpr GuestAddress kRsdp{0xe0000};  // guests search here without a pointer to it (ACPI 6.5, section 5.2.5.1)
inline constexpr GuestAddress kResetVector{0xffff0};  // a PC's firmware starts here
inline constexpr GuestAddress kHighRam{0x100000};

/// The boot page tables map each address below this one to itself.
inline constexpr uint64_t kIdentityMapEnd = 1ull << 30;

inline constexpr GuestAddress kMmioHole{3ull << 30};
inline constexpr GuestAddress kMmioHoleEnd{4ull << 30};
/// The guest's status page (vmm/devices/guest_page.h), in the first device slot.
inline constexpr GuestAddress kBootTimer{0xc0000000};
inline constexpr GuestAddress kVirtioMmio{0xc0001000};
inline constexpr uint64_t kMmioSlotSize = 0x1000;

/// Global system interrupts for devices: below are the legacy ones, above the IOAPIC has no more pins.
inline constexpr uint32_t kFirstDeviceGsi = 5;
inline constexpr uint32_t kLastGsi = 23;
inline constexpr uint32_t kSerialGsi = 4;
inline constexpr uint32_t kKeyboardGsi = 1;

inline constexpr uint32_t kIoApicAddress = 0xfec00000;
inline constexpr uint32_t kLocalApicAddress = 0xfee00000;
/// Three pages that KVM needs on Intel hosts (KVM_SET_TSS_ADDR). KVM's own page for the identity map is below them.
inline constexpr uint32_t kKvmTss = 0xfffbd000;

// Port I/O
inline constexpr uint16_t kSerialPort = 0x3f8;
inline constexpr uint16_t kSerialPortCount = 8;
inline constexpr uint16_t kKeyboardDataPort = 0x60;
inline constexpr uint16_t kKeyboardCommandPort = 0x64;
inline constexpr uint8_t kResetCommand = 0xfe;  ///< written to kKeyboardCommandPort: pulse the CPU's reset line
/// ACPI sleep registers, one byte each (ACPI 6.5, section 4.8.3.7). Power-off is (kSleepTypeOff << 2) | kSleepEnable
/// written to the control port. The status port reads 0.
inline constexpr uint16_t kSleepControlPort = 0x600;
inline constexpr uint16_t kSleepStatusPort = 0x601;
inline constexpr uint8_t kSleepTypeOff = 5;
inline constexpr uint8_t kSleepEnable = 1 << 5;
inline constexpr uint8_t kPowerOffCommand = (kSleepTypeOff << 2) | kSleepEnable;

/// RAM ranges of a machine with `memory_bytes` (a multiple of the page size) of RAM: up to 3 GiB below the MMIO hole,
/// the rest from 4 GiB. There is no second hole: Wisp has no device with registers above 4 GiB.
std::vector<GuestMemory::Range> memory_ranges(uint64_t memory_bytes);

}  // namespace wisp::boot
