// SPDX-License-Identifier: Apache-2.0
//
// CPU templates: changes to what CPUID and MSRs show the guest, before cpuid.h makes the rest consistent. Custom ones
// come by PUT /cpu-config; the static names (machine-config's cpu_template, deprecated) make CPUs of several
// generations look alike, and are for those CPUs only.
//
// Pure, but for the MSRs. Messages are Firecracker's.
#pragma once

#include "base/result.h"
#include "vmm/config/resources.h"
#include "vmm/kvm/kvm.h"

namespace wisp {

/// What the static template changes. An error if this CPU (`host`: its CPUID as KVM gives it) is not one that the
/// template is for.
Result<config::CpuConfig> static_template(config::CpuTemplateName name, const CpuidTable& host);

/// `table` with the template's changes. An error if one is to a leaf that KVM does not give.
Result<CpuidTable> apply_cpuid_modifiers(CpuidTable table, const std::vector<config::CpuidLeafModifier>& modifiers);

/// Changes the MSRs of a vCPU that has its CPUID.
Result<void> apply_msr_modifiers(const VcpuFd& vcpu, const std::vector<config::MsrModifier>& modifiers);

/// An error if KVM lacks a capability that the template asks for.
Result<void> check_capabilities(const Kvm& kvm, const std::vector<config::KvmCapability>& capabilities);

}  // namespace wisp
