// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/kvm.h>

#include <vector>

namespace wisp {

/// CPUID leaves: those that KVM and the host's CPU can give a guest, or those that a vCPU shows.
using CpuidTable = std::vector<kvm_cpuid_entry2>;

}  // namespace wisp
