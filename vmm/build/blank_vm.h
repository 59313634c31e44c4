// SPDX-License-Identifier: Apache-2.0
//
// BlankVm: what every VM needs, whatever its configuration says: KVM, a VM, and what CPUs KVM can give it. Its steps
// stand at the beginning of each recipe. They wait for the kernel, or for a CPUID instruction that the host emulates,
// more than they work, so they begin before the configuration is read.
//
// Threads: a lane runs each step; the recipe's order makes what it gives visible to the later ones.
#pragma once

#include <optional>

#include "vmm/kvm/kvm.h"

namespace wisp::build {

struct BlankVm {
    std::optional<Kvm> kvm;
    Vm vm;
    CpuidTable cpuid;

    /// Errors tell what is missing of KVM.
    Result<void> open_kvm() {
        kvm.emplace(TRY(Kvm::open()));
        return {};
    }
    Result<void> create_vm() {
        vm = TRY(kvm->create_vm());
        return {};
    }
    Result<void> read_cpuid() {
        cpuid = TRY(kvm->supported_cpuid());
        return {};
    }
};

}  // namespace wisp::build
