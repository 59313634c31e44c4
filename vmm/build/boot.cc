// SPDX-License-Identifier: Apache-2.0
//
// How a machine boots. Read the table first.
#include "vmm/build/boot.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "vmm/boot/boot.h"
#include "vmm/boot/load/early_pages.h"
#include "vmm/kvm/cpu_template.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/msr.h"

namespace wisp::build {

struct Boot::Table {
    enum Number : unsigned {
        kOpenKvm,
        kCreateVm,
        kReadCpuid,
        kConfiguration,
        kMapMemory,
        kPlaceDevices,
        kStartVcpuThreads,
        kSetUpVm,
        kLoadGuest,
        kFilterBootVcpu,
        kCreateOtherVcpus,
        kFilterOtherVcpus,
        kAddDevices,
        kCreateBootVcpu,
        kConnectDevices,
        kSetEntry,
        kStartConsole,
        kTouchEarlyPages,
        kLetVcpusGo,
        kEnterGuest,
        kStartDriveWriters,
        kCloseAfterExit,
    };

    static constexpr Step<Boot> kSteps[] = {
        {{"open /dev/kvm", Lane::kEither}, &Boot::open_kvm},
        // The kernel may wait for a grace period here (10 ms on Linux 6.1): the other lane then loads the guest.
        {{"create the VM", Lane::kEither, after(kOpenKvm)}, &Boot::create_vm},
        {{"read what CPUID KVM can give", Lane::kEither, after(kOpenKvm), Hint::kAwayFromBootCpu}, &Boot::read_cpuid},
        {{"the configuration", Lane::kGiven}},
        {{"map guest memory", Lane::kLoop, after(kConfiguration)}, &Boot::map_memory},
        {{"place devices", Lane::kLoop, after(kConfiguration)}, &Boot::place_devices},
        {{"start vCPU threads", Lane::kLoop, after(kMapMemory, kPlaceDevices)}, &Boot::start_vcpu_threads},
        {{"set the VM up", Lane::kEither, after(kCreateVm, kMapMemory), Hint::kGracePeriod}, &Boot::set_up_vm},
        {{"load the guest", Lane::kBootVcpu, after(kStartVcpuThreads), Hint::kTakeOver}, &Boot::load_guest},
        // From here on the boot vCPU's thread can do nothing but run the guest.
        {{"install the boot vCPU's filter", Lane::kBootVcpu, after(kReadCpuid, kSetUpVm, kLoadGuest)},
         &Boot::install_vcpu_filter},
        {{"create the other vCPUs", Lane::kOtherVcpus, after(kStartVcpuThreads, kReadCpuid, kSetUpVm)},
         &Boot::create_vcpu},
        {{"install their filters", Lane::kOtherVcpus, after(kStartVcpuThreads)}, &Boot::install_vcpu_filter},
        {{"add devices", Lane::kLoop, after(kStartVcpuThreads)}, &Boot::add_devices},
        {{"create the boot vCPU", Lane::kLoop, after(kReadCpuid, kSetUpVm)}, &Boot::create_vcpu},
        {{"connect devices", Lane::kLoop, after(kAddDevices, kSetUpVm)}, &Boot::connect_devices},
        {{"set the entry registers", Lane::kLoop, after(kCreateBootVcpu, kLoadGuest)}, &Boot::set_entry},
        {{"start the console", Lane::kLoop, after(kAddDevices, kSetEntry)}, &Boot::start_console},
        // While the VM is not there: pages that every boot touches, and would fault in one by one.
        {{"touch early pages", Lane::kLoop, after(kLoadGuest), Hint::kFiller}, &Boot::touch_early_pages},
        {{"let the vCPUs go", Lane::kLoop, after(kStartConsole, kConnectDevices, kFilterOtherVcpus)},
         &Boot::let_vcpus_go},
        {{"enter the guest", Lane::kBootVcpu, after(kFilterBootVcpu, kLetVcpusGo)}, &Boot::enter_guest},
        {{"start the drives' writers", Lane::kLoop, after(kLetVcpusGo)}, &Boot::start_drive_writers},
        {{"leave the VM's end to the kernel", Lane::kLoop, after(kLetVcpusGo)}, &Boot::close_after_exit},
    };
    static constexpr auto kPlans = plans_of(kSteps);
};

std::span<const StepPlan> Boot::plan() {
    return Table::kPlans;
}

// ---- lanes ----

Boot::Boot(Lanes::Cpus cpus) : lanes_(Table::kPlans, cpus) {}

Result<std::unique_ptr<Boot>> Boot::begin() {
    const bool has_cpu = Worker::has_cpu_of_its_own();
    std::unique_ptr<Boot> boot(new Boot(has_cpu ? Lanes::Cpus::kOneEach : Lanes::Cpus::kShared));
    // On one CPU a second thread would only take the CPU from this one. It starts later, and loads the guest while this
    // one waits in the kernel for the VM.
    if (has_cpu) TRY(boot->start_boot_vcpu_thread());
    return boot;
}

Boot::~Boot() {
    if (!boot_vcpu_thread_) return;
    lanes_.finish(Table::kConfiguration, fail("the machine was not started"));
    boot_vcpu_thread_.reset();
}

Result<void> Boot::start_boot_vcpu_thread() {
    boot_vcpu_thread_ = TRY_CONTEXT("vCPU 0", Worker::start(vcpu_thread_name(0)));
    lanes_.enter();
    boot_vcpu_thread_->run([this] { run_boot_vcpu_lane(); });
    return {};
}

void Boot::run_boot_vcpu_lane() {
    run_lane(lanes_, Lane::kBootVcpu, *this, Table::kSteps);
    Vcpu* const vcpu = lanes_.is_done(Table::kEnterGuest) ? machine_->vcpus().front().get() : nullptr;
    lanes_.leave();  // this object may be gone from here on
    if (vcpu) vcpu->run();
}

void Boot::run_other_vcpu_lane(unsigned id) {
    run_lane(lanes_, Lane::kOtherVcpus, *this, Table::kSteps, id);
    Vcpu* const vcpu = machine_->vcpus()[id].get();
    lanes_.leave();
    vcpu->run();  // waits until the vCPU may go, or its thread is ended
}

Result<std::unique_ptr<Machine>> Boot::run(const MachineHost& host, const config::VmConfig& config) {
    host_ = &host;
    config_ = &config;
    machine_ = std::make_unique<Machine>(host);
    lanes_.give(Table::kConfiguration);
    lanes_.enter();
    run_lane(lanes_, Lane::kLoop, *this, Table::kSteps);
    lanes_.leave();
    TRY(lanes_.wait_until_left());
    return std::move(machine_);
}

// ---- steps ----

Result<void> Boot::map_memory(unsigned) {
    return machine_->map_memory(config_->machine);
}

Result<void> Boot::place_devices(unsigned) {
    return machine_->place_devices(*config_);
}

Result<void> Boot::start_vcpu_threads(unsigned) {
    TRY(install_vcpu_kick_handler());
    if (!boot_vcpu_thread_) TRY(start_boot_vcpu_thread());
    const unsigned count = config_->machine.vcpu_count;
    for (unsigned id = 0; id < count; ++id) machine_->add_vcpu(id);
    machine_->vcpus().front()->adopt_thread(std::move(boot_vcpu_thread_));
    lanes_.set_other_vcpus(count - 1);
    for (unsigned id = 1; id < count; ++id) {
        auto worker = TRY_CONTEXT(format("vCPU %u", id), Worker::start(vcpu_thread_name(id)));
        lanes_.enter();
        worker->run([this, id] { run_other_vcpu_lane(id); });
        machine_->vcpus()[id]->adopt_thread(std::move(worker));
    }
    return {};
}

Result<void> Boot::set_up_vm(unsigned) {
    if (config_->cpu_config) TRY(check_capabilities(*blank_.kvm, config_->cpu_config->kvm_capabilities));
    return machine_->set_up_vm(std::move(blank_.vm),
                               config_->machine.track_dirty_pages ? Vm::DirtyLog::kOn : Vm::DirtyLog::kOff);
}

Result<void> Boot::load_guest(unsigned) {
    const config::BootSource& source = *config_->boot_source;
    boot::BootRequest request;
    request.vcpu_count = config_->machine.vcpu_count;
    request.virtio_devices = machine_->virtio_devices();
    request.keyboard = boot::Presence::kPresent;  // of no cost to a kernel without ACPI, or without a driver
    request.command_line = TRY(boot::CommandLine::create(source.boot_args));
    if (const config::Drive* root = config_->root_drive()) {
        const auto access =
            root->is_read_only ? boot::RootDrive::Access::kReadOnly : boot::RootDrive::Access::kReadWrite;
        TRY(request.command_line.add_root({access, root->partuuid.value_or("")}));
    }
    const OwnedFd kernel = TRY_CONTEXT("kernel image", open_file(source.kernel_image_path, O_RDONLY | O_NONBLOCK));
    request.kernel = {kernel.get(), source.kernel_image_path};
    OwnedFd initrd;
    if (const auto& path = source.initrd_path) {
        initrd = TRY_CONTEXT("initrd", open_file(*path, O_RDONLY | O_NONBLOCK));
        request.initrd = boot::BootFile{initrd.get(), *path};
    }
    kernel_ = std::move(TRY(boot::set_up_boot(machine_->memory(), request)).kernel);
    host_->timeline.mark(Mark::kKernelLoaded);
    return {};
}

Result<void> Boot::install_vcpu_filter(unsigned) {
    return host_->seccomp.install(policy::Phase::kVcpu);
}

/// What all of the guest's CPUs are made to look like.
Result<config::CpuConfig> Boot::cpu_config() const {
    if (config_->cpu_config) return *config_->cpu_config;
    if (config_->machine.cpu_template) return static_template(*config_->machine.cpu_template, blank_.cpuid);
    return config::CpuConfig{};
}

// The vCPUs but the first wait in the kernel for the guest's INIT and SIPI, which must find them there.
Result<void> Boot::create_vcpu(unsigned id) {
    VcpuFd vcpu = TRY(machine_->vm().create_vcpu(id));
    const config::CpuConfig cpu = TRY(cpu_config());
    const CpuTopology topology{config_->machine.vcpu_count, config_->machine.smt};
    const CpuidTable table = TRY(apply_cpuid_modifiers(blank_.cpuid, cpu.cpuid_modifiers));
    TRY(vcpu.set_cpuid(normalize_cpuid(table, topology, id)));
    TRY(vcpu.set_xcr0(table));
    TRY(vcpu.set_msrs(kBootMsrs));
    TRY(apply_msr_modifiers(vcpu, cpu.msr_modifiers));
    machine_->vcpus()[id]->set_fd(std::move(vcpu));
    return {};
}

Result<void> Boot::add_devices(unsigned) {
    return machine_->add_devices(*config_);
}

Result<void> Boot::connect_devices(unsigned) {
    return machine_->connect_devices();
}

Result<void> Boot::set_entry(unsigned) {
    const VcpuFd& vcpu = machine_->vcpus().front()->fd();
    kvm_sregs sregs = TRY(vcpu.sregs());
    boot::set_entry_sregs(kernel_.protocol, sregs);
    TRY(vcpu.set_sregs(sregs));
    return vcpu.set_regs(boot::entry_registers(kernel_.protocol, kernel_.entry));
}

Result<void> Boot::start_console(unsigned) {
    return machine_->start_console();
}

Result<void> Boot::touch_early_pages(unsigned) {
    for (const auto& piece : boot::early_pages(machine_->memory(), kernel_)) {
        if (lanes_.is_done(Table::kCreateVm)) break;
        // Linux 5.14. Where it fails, nothing is lost.
        madvise(piece.host_address(), piece.size(), MADV_POPULATE_WRITE);
    }
    return {};
}

Result<void> Boot::let_vcpus_go(unsigned) {
    for (const auto& vcpu : machine_->vcpus()) vcpu->resume();
    return {};
}

Result<void> Boot::start_drive_writers(unsigned) {
    machine_->start_drive_writers();
    return {};
}

Result<void> Boot::close_after_exit(unsigned) {
    machine_->close_after_exit();
    return {};
}

}  // namespace wisp::build
