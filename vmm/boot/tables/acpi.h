// SPDX-License-Identifier: Apache-2.0
//
// A small hardware-reduced ACPI (ACPI 6.5, section 4.1): enough for a stock kernel to find its processors, interrupts,
// serial port and virtio-mmio devices, and to switch the machine off. There are no fixed-hardware registers: no PM
// timer, no power button, no SCI.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"
#include "vmm/boot/command_line.h"

namespace wisp::boot {

/// Whether the tables list a legacy device.
enum class Presence { kAbsent, kPresent };

struct AcpiPlatform {
    unsigned vcpu_count = 1;
    Presence serial = Presence::kPresent;
    /// The i8042 as a keyboard controller, for Ctrl-Alt-Del. The reset port works without it. A guest with a keyboard
    /// probes it with about 10,000 port accesses (Linux 6.1).
    Presence keyboard = Presence::kAbsent;
    std::span<const VirtioMmioDevice> virtio_devices;
};

// Each function returns a table as it lies in memory, with its checksum.
std::vector<std::byte> make_dsdt(const AcpiPlatform& platform);
std::vector<std::byte> make_fadt(const AcpiPlatform& platform, GuestAddress dsdt);
std::vector<std::byte> make_madt(unsigned vcpu_count);
std::vector<std::byte> make_xsdt(std::span<const GuestAddress> tables);
std::vector<std::byte> make_rsdp(GuestAddress xsdt);

/// Writes the RSDP to kRsdp and the other tables from kAcpiTables on.
Result<void> write_acpi_tables(const GuestMemory& memory, const AcpiPlatform& platform);

}  // namespace wisp::boot
