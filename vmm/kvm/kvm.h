// SPDX-License-Identifier: Apache-2.0
//
// Kvm: what /dev/kvm itself answers. Each call is wrapped once and named as in Documentation/virt/kvm/api.rst; errors
// name it.
//
// Threads: any.
#pragma once

#include <cstdint>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "vmm/kvm/cpuid_table.h"
#include "vmm/kvm/vm.h"

namespace wisp {

class Kvm {
public:
    /// Opens /dev/kvm and checks KVM_GET_API_VERSION. Errors tell what is missing: device, permission, version.
    static Result<Kvm> open();

    int fd() const { return fd_.get(); }
    /// KVM_CREATE_VM, and KVM_GET_VCPU_MMAP_SIZE for its vCPUs.
    Result<Vm> create_vm() const;
    /// KVM_GET_SUPPORTED_CPUID: the leaves that KVM and this CPU can give a guest.
    Result<CpuidTable> supported_cpuid() const;
    /// KVM_GET_MSR_INDEX_LIST: the MSRs that hold a guest's state on this host, in KVM's order.
    Result<std::vector<uint32_t>> msr_index_list() const;
    /// KVM_CHECK_EXTENSION: a KVM_CAP_…; numbers that this kernel does not know are false.
    bool has_capability(uint32_t number) const;

private:
    explicit Kvm(OwnedFd fd) : fd_(std::move(fd)) {}
    OwnedFd fd_;
};

}  // namespace wisp
