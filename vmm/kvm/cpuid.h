// SPDX-License-Identifier: Apache-2.0
//
// CPUID normalisation: what a vCPU's CPUID instruction shows, made from what KVM can give. One socket of identical
// cores, threads in pairs only where `smt` asks for them, no performance counters, no power management, and a brand
// string that does not name the host's exact model. The same facts as Firecracker shows (Intel SDM vol. 2 CPUID; AMD
// APM vol. 3 appendix E).
//
// Pure: a table in, a table out.
#pragma once

#include "base/result.h"
#include "vmm/kvm/cpuid_table.h"

namespace wisp {

struct CpuTopology {
    unsigned vcpu_count = 1;  ///< 1 to 32
    bool smt = false;         ///< two threads a core; vcpu_count is then 1 or even

    unsigned threads_per_core() const { return smt && vcpu_count > 1 ? 2 : 1; }
    unsigned cores() const { return vcpu_count / threads_per_core(); }
};

enum class CpuVendor { kIntel, kAmd, kOther };

/// By leaf 0.
CpuVendor cpu_vendor(const CpuidTable& table);

/// The CPUID of vCPU `vcpu_id`, whose APIC ID is the same number.
CpuidTable normalize_cpuid(CpuidTable table, const CpuTopology& topology, unsigned vcpu_id);

}  // namespace wisp
