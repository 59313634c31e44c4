// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/kvm.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace wisp {

namespace {

constexpr const char* kDevice = "/dev/kvm";
constexpr unsigned kMaxCpuidEntries = 256;  // KVM_MAX_CPUID_ENTRIES
constexpr unsigned kMaxMsrs = 64;

// kvm_cpuid2 and kvm_msrs end in a flexible array, which some versions of the kernel's headers declare in a way that
// has another size in C++ than in C. The size is part of the request's number, so both are stated here as the kernel
// has them: a count, padding, then the entries.
struct ArrayHeader {
    uint32_t count;
    uint32_t padding;
};
constexpr unsigned long kGetSupportedCpuid = _IOWR(KVMIO, 0x05, ArrayHeader);
constexpr unsigned long kGetMsrs = _IOWR(KVMIO, 0x88, ArrayHeader);
constexpr unsigned long kSetMsrs = _IOW(KVMIO, 0x89, ArrayHeader);
constexpr unsigned long kSetCpuid2 = _IOW(KVMIO, 0x90, ArrayHeader);

template <class Entry>
class ArrayRequest {
public:
    explicit ArrayRequest(size_t capacity) : bytes_(new std::byte[sizeof(ArrayHeader) + capacity * sizeof(Entry)]()) {
        header().count = static_cast<uint32_t>(capacity);
    }
    ArrayHeader& header() { return *reinterpret_cast<ArrayHeader*>(bytes_.get()); }
    Entry* entries() { return reinterpret_cast<Entry*>(bytes_.get() + sizeof(ArrayHeader)); }

private:
    std::unique_ptr<std::byte[]> bytes_;
};

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
    int fd;
    do {
        fd = ioctl(fd_.get(), KVM_CREATE_VM, 0);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) return fail_errno("KVM_CREATE_VM");
    OwnedFd owned(fd);
    const int run_size = ioctl(fd_.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_size < static_cast<int>(sizeof(kvm_run))) return fail_errno("KVM_GET_VCPU_MMAP_SIZE");
    return Vm(std::move(owned), static_cast<size_t>(run_size));
}

Result<CpuidTable> Kvm::supported_cpuid() const {
    ArrayRequest<kvm_cpuid_entry2> request(kMaxCpuidEntries);
    if (ioctl(fd_.get(), kGetSupportedCpuid, &request.header()) < 0) return fail_errno("KVM_GET_SUPPORTED_CPUID");
    return CpuidTable(request.entries(), request.entries() + request.header().count);
}

bool Kvm::has_capability(uint32_t number) const {
    return ioctl(fd_.get(), KVM_CHECK_EXTENSION, static_cast<unsigned long>(number)) > 0;
}

Result<void> Vm::set_tss_address(uint64_t address) const {
    if (ioctl(fd(), KVM_SET_TSS_ADDR, address) < 0) return fail_errno("KVM_SET_TSS_ADDR");
    return {};
}

Result<void> Vm::set_memory_slot(uint32_t slot, const GuestRegion& region, DirtyLog dirty_log) const {
    kvm_userspace_memory_region request{};
    request.slot = slot;
    request.flags = dirty_log == DirtyLog::kOn ? KVM_MEM_LOG_DIRTY_PAGES : 0;
    request.guest_phys_addr = region.start.value;
    request.memory_size = region.size;
    request.userspace_addr = reinterpret_cast<uintptr_t>(region.host);
    if (ioctl(fd(), KVM_SET_USER_MEMORY_REGION, &request) < 0)
        return fail_errno("KVM_SET_USER_MEMORY_REGION of %lu MiB at 0x%lx",
                          static_cast<unsigned long>(region.size >> 20),
                          static_cast<unsigned long>(region.start.value));
    return {};
}

Result<void> Vm::create_irqchip() const {
    if (ioctl(fd(), KVM_CREATE_IRQCHIP, 0) < 0) return fail_errno("KVM_CREATE_IRQCHIP");
    // KVM's begins with no line masked and at vector 0: the first that rises would be an exception to a guest that,
    // by what ACPI says of its hardware, knows of no i8259.
    kvm_irqchip i8259{};
    i8259.chip_id = KVM_IRQCHIP_PIC_MASTER;  // the other is behind one of its lines
    i8259.chip.pic.imr = 0xff;
    i8259.chip.pic.elcr_mask = 0xf8;  // as it was: lines 0 to 2 are always edge-triggered
    if (ioctl(fd(), KVM_SET_IRQCHIP, &i8259) < 0) return fail_errno("KVM_SET_IRQCHIP");
    return {};
}

Result<void> Vm::create_pit() const {
    kvm_pit_config config{};
    config.flags = KVM_PIT_SPEAKER_DUMMY;
    if (ioctl(fd(), KVM_CREATE_PIT2, &config) < 0) return fail_errno("KVM_CREATE_PIT2");
    return {};
}

Result<kvm_pit_state2> Vm::pit() const {
    kvm_pit_state2 state{};
    if (ioctl(fd(), KVM_GET_PIT2, &state) < 0) return fail_errno("KVM_GET_PIT2");
    return state;
}

Result<void> Vm::set_pit(const kvm_pit_state2& state) const {
    if (ioctl(fd(), KVM_SET_PIT2, &state) < 0) return fail_errno("KVM_SET_PIT2");
    return {};
}

Result<VcpuFd> Vm::create_vcpu(unsigned id) const {
    OwnedFd vcpu(ioctl(fd(), KVM_CREATE_VCPU, static_cast<unsigned long>(id)));
    if (!vcpu.valid()) return fail_errno("KVM_CREATE_VCPU %u", id);
    Mapping run =
        TRY(Mapping::of_fd(vcpu.get(), 0, run_size_, PROT_READ | PROT_WRITE, MAP_SHARED, "a vCPU's run page"));
    return VcpuFd(std::move(vcpu), std::move(run));
}

Result<void> Vm::add_ioeventfd(int event_fd, uint64_t address, uint32_t value) const {
    kvm_ioeventfd request{};
    request.datamatch = value;
    request.addr = address;
    request.len = sizeof value;
    request.fd = event_fd;
    request.flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
    if (ioctl(fd(), KVM_IOEVENTFD, &request) < 0)
        return fail_errno("KVM_IOEVENTFD at 0x%lx", static_cast<unsigned long>(address));
    return {};
}

Result<void> Vm::add_irqfd(int event_fd, uint32_t gsi) const {
    kvm_irqfd request{};
    request.fd = static_cast<uint32_t>(event_fd);
    request.gsi = gsi;
    if (ioctl(fd(), KVM_IRQFD, &request) < 0) return fail_errno("KVM_IRQFD for GSI %u", gsi);
    return {};
}

Result<void> Vm::pulse_irq_line(uint32_t gsi) const {
    for (const uint32_t level : {1u, 0u}) {
        kvm_irq_level line{};
        line.irq = gsi;
        line.level = level;
        if (ioctl(fd(), KVM_IRQ_LINE, &line) < 0) return fail_errno("KVM_IRQ_LINE for GSI %u", gsi);
    }
    return {};
}

bool VcpuFd::note_pause() const {
    return ioctl(fd(), KVM_KVMCLOCK_CTRL, 0) == 0;
}

int VcpuFd::run() const {
    return ioctl(fd(), KVM_RUN, 0) < 0 ? errno : 0;
}

Result<void> VcpuFd::set_cpuid(const CpuidTable& table) const {
    ArrayRequest<kvm_cpuid_entry2> request(table.size());
    memcpy(request.entries(), table.data(), table.size() * sizeof table[0]);
    if (ioctl(fd(), kSetCpuid2, &request.header()) < 0) return fail_errno("KVM_SET_CPUID2");
    return {};
}

Result<void> VcpuFd::set_xcr0(const CpuidTable& table) const {
    const auto xsave = std::find_if(table.begin(), table.end(), [](const kvm_cpuid_entry2& entry) {
        return entry.function == 0xd && entry.index == 0;
    });
    if (xsave == table.end() || xsave->eax == 0) return {};
    kvm_xcrs xcrs{};
    xcrs.nr_xcrs = 1;
    xcrs.xcrs[0].value = static_cast<uint64_t>(xsave->edx) << 32 | xsave->eax;
    if (ioctl(fd(), KVM_SET_XCRS, &xcrs) < 0) return fail_errno("KVM_SET_XCRS");
    return {};
}

Result<void> VcpuFd::set_msrs(std::span<const kvm_msr_entry> msrs) const {
    if (msrs.size() > kMaxMsrs) return fail("KVM_SET_MSRS: %zu are more than %u at once", msrs.size(), kMaxMsrs);
    ArrayRequest<kvm_msr_entry> request(msrs.size());
    memcpy(request.entries(), msrs.data(), msrs.size_bytes());
    const int set = ioctl(fd(), kSetMsrs, &request.header());
    if (set < 0) return fail_errno("KVM_SET_MSRS");
    // KVM stops at the first MSR that it refuses and returns how many came before it.
    if (static_cast<size_t>(set) != msrs.size())
        return fail("KVM_SET_MSRS: KVM refuses MSR 0x%x", msrs[static_cast<size_t>(set)].index);
    return {};
}

Result<uint64_t> VcpuFd::msr(uint32_t index) const {
    ArrayRequest<kvm_msr_entry> request(1);
    request.entries()->index = index;
    const int got = ioctl(fd(), kGetMsrs, &request.header());
    if (got < 0) return fail_errno("KVM_GET_MSRS");
    if (got != 1) return fail("KVM_GET_MSRS: KVM has no MSR 0x%x", index);
    return request.entries()->data;
}

Result<kvm_regs> VcpuFd::regs() const {
    kvm_regs regs{};
    if (ioctl(fd(), KVM_GET_REGS, &regs) < 0) return fail_errno("KVM_GET_REGS");
    return regs;
}

Result<void> VcpuFd::set_regs(const kvm_regs& regs) const {
    if (ioctl(fd(), KVM_SET_REGS, &regs) < 0) return fail_errno("KVM_SET_REGS");
    return {};
}

Result<kvm_sregs> VcpuFd::sregs() const {
    kvm_sregs sregs{};
    if (ioctl(fd(), KVM_GET_SREGS, &sregs) < 0) return fail_errno("KVM_GET_SREGS");
    return sregs;
}

Result<void> VcpuFd::set_sregs(const kvm_sregs& sregs) const {
    if (ioctl(fd(), KVM_SET_SREGS, &sregs) < 0) return fail_errno("KVM_SET_SREGS");
    return {};
}

}  // namespace wisp
