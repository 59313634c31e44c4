// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/kvm.h"

#include <fcntl.h>

#include "vmm/kvm/ioctl.h"

namespace wisp {

namespace {

constexpr const char* kDevice = "/dev/kvm";
constexpr uint32_t kMaxListedMsrs = 4096;  // Linux 6.18 lists some 300

Result<OwnedFd> open_device() {
    const int fd = open(kDevice, O_RDWR | O_CLOEXEC);
    if (fd >= 0) return OwnedFd(fd);
    switch (errno) {
        case ENOENT:
            return fail("%s does not exist: this host has no KVM (load kvm_intel or kvm_amd, or enable virtualization)",
                        kDevice);
        case EACCES:
        case EPERM:
            return fail("no permission to open %s: run as a member of its group (usually kvm) or as root", kDevice);
        default:
            return fail_errno("cannot open %s", kDevice);
    }
}

}  // namespace

Result<Kvm> Kvm::open() {
    OwnedFd fd = TRY(open_device());
    const int version = ioctl(fd.get(), KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION) return fail("%s speaks API version %d, not %d", kDevice, version, KVM_API_VERSION);
    return Kvm(std::move(fd));
}

Result<Vm> Kvm::create_vm() const {
    OwnedFd vm(TRY(kvm::call(fd(), KVM_CREATE_VM, "KVM_CREATE_VM", 0)));
    const int run_size = ioctl(fd(), KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_size < static_cast<int>(sizeof(kvm_run))) return fail_errno("KVM_GET_VCPU_MMAP_SIZE");
    return Vm(std::move(vm), static_cast<size_t>(run_size));
}

Result<CpuidTable> Kvm::supported_cpuid() const {
    kvm::ArrayRequest<kvm_cpuid_entry2> request(kvm::kMaxCpuidEntries);
    TRY(kvm::call(fd(), kvm::kGetSupportedCpuid, "KVM_GET_SUPPORTED_CPUID", &request.header()));
    return CpuidTable(request.entries(), request.entries() + request.header().count);
}

// The count is followed by 32-bit indices without padding between: a list that is too short is answered with E2BIG
// and the count that there is.
Result<std::vector<uint32_t>> Kvm::msr_index_list() const {
    std::vector<uint32_t> list(1 + 512);
    for (;;) {
        list[0] = static_cast<uint32_t>(list.size() - 1);
        if (auto got = kvm::call(fd(), kvm::kGetMsrIndexList, "KVM_GET_MSR_INDEX_LIST", list.data()); got)
            break;
        else if (got.error().errno_value != E2BIG || list[0] < list.size() || list[0] > kMaxListedMsrs)
            return std::unexpected(std::move(got).error());
        list.resize(1 + size_t{list[0]});
    }
    return std::vector<uint32_t>(list.begin() + 1, list.begin() + 1 + list[0]);
}

bool Kvm::has_capability(uint32_t number) const {
    return ioctl(fd(), KVM_CHECK_EXTENSION, static_cast<unsigned long>(number)) > 0;
}

}  // namespace wisp
