// SPDX-License-Identifier: Apache-2.0
//
// The MP table (Intel MultiProcessor Specification 1.4, section 4). A guest kernel without ACPI finds its processors
// and the IOAPIC by it.
#pragma once

#include <cstddef>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wisp::boot {

/// The floating pointer and the table behind it, with the addresses for a place at kMpTable: `vcpu_count` processors (1
/// to limits::kMaxVcpus) whose APIC ids count from 0, an ISA bus, one IOAPIC, each GSI wired to the pin of its number.
std::vector<std::byte> make_mp_table(unsigned vcpu_count);

/// Writes the table to kMpTable.
Result<void> write_mp_table(const GuestMemory& memory, unsigned vcpu_count);

}  // namespace wisp::boot
