// SPDX-License-Identifier: Apache-2.0
//
// How a machine is built, from nothing to vCPUs in the guest: read Machine::launch() first.
//
// Two threads share the work. The boot vCPU's makes the VM (vmm/build/head_start.h) and loads the guest; this one gives
// the VM its memory, devices and boot vCPU. What either of them would wait for idly, the other's work, it does itself
// if that is not begun.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <ranges>

#include "base/check.h"
#include "base/log.h"
#include "virtio/block/device.h"
#include "vmm/boot/load/early_pages.h"
#include "vmm/devices/vsock.h"
#include "vmm/kvm/cpu_template.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/msr.h"
#include "vmm/machine.h"

namespace wisp {

namespace {

/// Memory and swap. What all VMs together ask for may be more; what one asks for can never be had beyond this.
uint64_t host_memory_mib() {
    struct sysinfo info{};
    sysinfo(&info);
    return (static_cast<uint64_t>(info.totalram) + info.totalswap) * info.mem_unit / limits::kMiB;
}

MemoryBacking backing_of(const config::MachineConfig& machine) {
    switch (machine.huge_pages) {
        case config::HugePages::kTransparent:
            return MemoryBacking::transparent_huge();
        case config::HugePages::k2M:
            return MemoryBacking::huge_tlb_2m();
        default:
            return MemoryBacking::anonymous();
    }
}

}  // namespace

Result<std::unique_ptr<Machine>> Machine::launch(const MachineHost& host, const config::VmConfig& config,
                                                 std::unique_ptr<HeadStart> head_start) {
    std::unique_ptr<Machine> machine(new Machine(host, config, std::move(head_start)));
    TRY(machine->map_memory());
    TRY(machine->place_devices());
    const auto started = machine->start_vcpu_threads();
    if (!started) machine->vm_set_up_.run([&] { return started; });
    machine->boot_vcpu_.run([&]() -> Result<VcpuFd> {
        TRY(started);
        machine->share_the_work();
        auto built = machine->build_boot_vcpu();
        if (built)
            for (const auto& vcpu : machine->vcpus_) vcpu->let_go();
        return built;
    });
    TRY(machine->wait_for_vcpus());
    TRY(started);
    // The guest runs. A machine that has run is not taken apart: what fails now ends the process.
    machine->stay_out_of_exit();
    // From here on nothing is built any more.
    if (auto installed = host.seccomp.install(policy::Phase::kLoop); !installed)
        host.stop.request({ExitCode::kBadConfiguration, installed.error().message});
    return machine;
}

Machine::Machine(const MachineHost& host, const config::VmConfig& config, std::unique_ptr<HeadStart> head_start)
    : host_(host),
      config_(config),
      head_start_(std::move(head_start)),
      vm_(head_start_->vm()),
      keyboard_bell_(host.loop, [this] { raise_keyboard_interrupt(); }),
      i8042_(host.stop, [this] { keyboard_bell_.ring(); }),
      power_(host.stop),
      pit_(vm_),
      status_([this] { host_.on_boot_done(exits()); }),
      vcpus_paused_(host.loop,
                    [this] {
                        if (vcpus_to_pause_ == 0) pause_devices(std::exchange(on_paused_, nullptr));
                    }),
      others_prepared_(config.machine.vcpu_count - 1) {}

Result<void> Machine::map_memory() {
    const uint64_t host_mib = host_memory_mib();
    if (config_.machine.mem_size_mib > host_mib)
        return fail("machine-config: mem_size_mib %lu is more than the %lu MiB that the host has",
                    config_.machine.mem_size_mib, host_mib);
    const auto ranges = boot::memory_ranges(config_.machine.mem_size_mib * limits::kMiB);
    memory_ = TRY(GuestMemory::create(ranges, backing_of(config_.machine)));
    return {};
}

// The guest is told of its devices before they are made: where each is follows from their order alone.
Result<void> Machine::place_devices() {
    const size_t count = config_.drives.size() + config_.network_interfaces.size() + (config_.vsock ? 1 : 0);
    if (count > limits::kMaxMmioDevices)
        return fail("%zu devices, but there are interrupts for %zu", count, limits::kMaxMmioDevices);
    for (uint32_t i = 0; i < count; ++i)
        virtio_devices_.push_back({{boot::kVirtioMmio.value + i * boot::kMmioSlotSize}, boot::kFirstDeviceGsi + i});
    return {};
}

Result<void> Machine::start_vcpu_threads() {
    auto started = install_vcpu_kick_handler();
    if (started) started = start_boot_vcpu_thread();
    for (unsigned id = 1; started && id < config_.machine.vcpu_count; ++id) started = start_vcpu_thread(id);
    for (auto id = vcpus_.size(); id < config_.machine.vcpu_count; ++id)
        (id == 0 ? boot_vcpu_prepared_ : others_prepared_).count_down();
    return started;
}

Result<void> Machine::start_boot_vcpu_thread() {
    auto worker = head_start_->take_worker();
    if (!worker) worker = TRY_CONTEXT("vCPU 0", Worker::start(vcpu_thread_name(0)));
    vcpus_.push_back(std::make_unique<Vcpu>(0, vcpu_world()));
    vcpus_.back()->start(std::move(worker), [this] { return prepare_boot_vcpu(); }, boot_vcpu_prepared_);
    return {};
}

Result<void> Machine::start_vcpu_thread(unsigned id) {
    auto worker = TRY_CONTEXT(format("vCPU %u", id), Worker::start(vcpu_thread_name(id)));
    vcpus_.push_back(std::make_unique<Vcpu>(id, vcpu_world()));
    vcpus_.back()->start(std::move(worker), [this, id] { return prepare_vcpu(id); }, others_prepared_);
    return {};
}

Result<void> Machine::add_devices() {
    TRY(add_platform_devices());
    TRY(add_drives());
    TRY(net_.create(host_.loop, config_, host_.metadata,
                    [this](auto device) { return add_virtio(std::move(device)); }));
    return add_vsock();
}

// On both threads. Which of them sets the VM up, and which asks for CPUID, is for HeadStart to say.
void Machine::share_the_work() {
    if (head_start_->begun() && !head_start_->has_vm_soon()) use_the_wait();
    if (head_start_->begun() && !HeadStart::is_where_grace_periods_end()) head_start_->ask_cpuid();
    vm_set_up_.run([this] { return set_up_vm(); });
}

// All slots before anything else changes the VM: see vmm/kvm/kvm.h.
Result<void> Machine::set_up_vm() {
    TRY(head_start_->make_vm());
    if (config_.cpu_config) TRY(check_capabilities(*head_start_->kvm(), config_.cpu_config->kvm_capabilities));
    TRY(vm_.set_tss_address(boot::kKvmTss));
    const auto log = config_.machine.track_dirty_pages ? Vm::DirtyLog::kOn : Vm::DirtyLog::kOff;
    for (uint32_t slot = 0; slot < memory_.regions().size(); ++slot)
        TRY(vm_.set_memory_slot(slot, memory_.regions()[slot], log));
    TRY(vm_.create_irqchip());
    host_.timeline.mark(Mark::kVmCreated);
    return {};
}

// For whoever cannot go on before the VM is there. The time that is left goes into pages that the guest will touch in
// any case, and would otherwise fault in one by one.
void Machine::use_the_wait() {
    guest_loaded_.run([this] { return load_guest(); });
    if (!guest_loaded_.wait()) return;
    head_start_->ask_cpuid();
    if (head_start_->has_vm_soon()) return;
    for (const GuestSlice& pages : boot::early_pages(memory_, kernel_)) {
        if (head_start_->has_vm()) return;
        // Linux 5.14. Where it fails, nothing is lost.
        madvise(pages.host_address(), pages.size(), MADV_POPULATE_WRITE);
    }
}

// On the boot vCPU's thread, which has its filter before its vCPU is there.
Result<VcpuFd> Machine::prepare_boot_vcpu() {
    if (head_start_->begun()) share_the_work();
    use_the_wait();
    TRY(guest_loaded_.wait());
    TRY(host_.seccomp.install(policy::Phase::kVcpu));  // the next is the guest
    TRY(vm_set_up_.wait());                            // asleep: this CPU may be wanted for it
    return std::move(head_start_->wait_for(boot_vcpu_));
}

// The other vCPUs wait in the kernel for the guest's INIT and SIPI, which must find them there.
Result<VcpuFd> Machine::build_boot_vcpu() {
    TRY(vm_set_up_.wait());
    TRY(add_devices());
    VcpuFd vcpu = TRY(create_vcpu(0));
    TRY(connect_devices());
    TRY(head_start_->wait_for(guest_loaded_));
    kvm_sregs sregs = TRY(vcpu.sregs());
    boot::set_entry_sregs(kernel_.protocol, sregs);
    TRY(vcpu.set_sregs(sregs));
    TRY(vcpu.set_regs(boot::entry_registers(kernel_.protocol, kernel_.entry)));
    TRY(console_->start());
    others_prepared_.wait();
    for (const auto& each : vcpus_ | std::views::drop(1)) TRY(each->outcome());
    return vcpu;
}

// On the other vCPUs' own threads, all of them at once.
Result<VcpuFd> Machine::prepare_vcpu(unsigned id) {
    auto vcpu = TRY(create_vcpu(id));
    TRY(host_.seccomp.install(policy::Phase::kVcpu));  // the next is the guest
    return vcpu;
}

Result<VcpuFd> Machine::create_vcpu(unsigned id) {
    TRY(vm_set_up_.wait());
    VcpuFd vcpu = TRY(vm_.create_vcpu(id));
    const auto& host = head_start_->cpuid();
    if (!host) return std::unexpected(host.error());
    config::CpuConfig cpu;  // what all of the guest's CPUs are made to look like
    if (config_.cpu_config)
        cpu = *config_.cpu_config;
    else if (config_.machine.cpu_template)
        cpu = TRY(static_template(*config_.machine.cpu_template, *host));
    const CpuTopology topology{config_.machine.vcpu_count, config_.machine.smt};
    const CpuidTable table = TRY(apply_cpuid_modifiers(*host, cpu.cpuid_modifiers));
    TRY(vcpu.set_cpuid(normalize_cpuid(table, topology, id)));
    TRY(vcpu.set_xcr0(table));
    TRY(vcpu.set_msrs(kBootMsrs));
    TRY(apply_msr_modifiers(vcpu, cpu.msr_modifiers));
    return vcpu;
}

Result<void> Machine::add_platform_devices() {
    console_irq_ = TRY(create_eventfd());
    const auto sink = config_.serial ? config_.serial->serial_out_path : std::nullopt;
    console_ = TRY(Console::create(host_.loop, sink, [fd = console_irq_.get()] { signal_eventfd(fd); }));

    if (config_.serial && config_.serial->rate_limiter && config_.serial->rate_limiter->limits())
        console_->limit(token_bucket_of(*config_.serial->rate_limiter));

    TRY(ports_.insert(boot::kSerialPort, boot::kSerialPortCount, console_->serial(), "serial port"));
    TRY(ports_.insert(boot::kKeyboardDataPort, 1, i8042_.data_port(), "i8042 data"));
    TRY(ports_.insert(boot::kKeyboardCommandPort, 1, i8042_.command_port(), "i8042 command"));
    TRY(ports_.insert(boot::kSleepControlPort, 2, power_, "ACPI sleep registers"));
    TRY(ports_.insert(LazyPit::kCounterPorts, 4, pit_.counters(), "i8254"));
    TRY(ports_.insert(LazyPit::kSpeakerPort, 1, pit_.speaker(), "i8254 speaker port"));
    return mmio_.insert(boot::kBootTimer.value, boot::kMmioSlotSize, status_, "boot timer");
}

// From the loop's thread in any case, so that vCPU threads need not be allowed the call.
void Machine::raise_keyboard_interrupt() {
    if (auto raised = vm_.pulse_irq_line(boot::kKeyboardGsi); !raised)
        LOG_LIMITED("i8042: %s", raised.error().message.c_str());
}

Result<void> Machine::add_drives() {
    for (const config::Drive& drive : config_.drives) {
        using virtio::BlockConfig;
        BlockConfig block;
        block.id = drive.drive_id;
        block.path = drive.path_on_host;
        block.read_only = drive.is_read_only;
        block.cache_type = drive.cache_type == config::CacheType::kWriteback ? BlockConfig::CacheType::kWriteback
                                                                             : BlockConfig::CacheType::kUnsafe;
        block.host_cache = drive.direct ? virtio::BlockFile::Cache::kDirect : virtio::BlockFile::Cache::kPageCache;
        if (drive.rate_limiter) block.rate_limiter = rate_limiter_of(*drive.rate_limiter);
        block.io_engine =
            drive.io_engine == config::IoEngine::kSync ? BlockConfig::IoEngine::kSync : BlockConfig::IoEngine::kAsync;
        auto device = TRY(virtio::Block::create(host_.loop, std::move(block)));
        drives_.push_back(device.get());
        TRY(add_virtio(std::move(device)));
    }
    return {};
}

Result<void> Machine::add_vsock() {
    if (!config_.vsock) return {};
    auto device = TRY(create_vsock(host_.loop, *config_.vsock, host_.vsock_listener));
    vsock_ = device.get();
    return add_virtio(std::move(device));
}

Result<void> Machine::add_virtio(std::unique_ptr<virtio::Device> device) {
    CHECK(transports_.size() < virtio_devices_.size());
    const boot::VirtioMmioDevice& place = virtio_devices_[transports_.size()];
    auto transport = TRY(virtio::MmioTransport::create(host_.loop, memory_, std::move(device)));
    TRY(mmio_.insert(place.address.value, boot::kMmioSlotSize, *transport, transport->device().name()));
    transports_.push_back(std::move(transport));
    return {};
}

Result<void> Machine::load_guest() {
    boot::BootRequest request;
    request.vcpu_count = config_.machine.vcpu_count;
    request.virtio_devices = virtio_devices_;
    request.keyboard = boot::Presence::kPresent;  // of no cost to a kernel without ACPI, or without a driver
    request.command_line = TRY(boot::CommandLine::create(config_.boot_source->boot_args));
    if (const config::Drive* root = config_.root_drive()) {
        const auto access =
            root->is_read_only ? boot::RootDrive::Access::kReadOnly : boot::RootDrive::Access::kReadWrite;
        TRY(request.command_line.add_root({access, root->partuuid.value_or("")}));
    }
    const std::string& kernel_path = config_.boot_source->kernel_image_path;
    const OwnedFd kernel = TRY_CONTEXT("kernel image", open_file(kernel_path, O_RDONLY | O_NONBLOCK));
    request.kernel = {kernel.get(), kernel_path};
    OwnedFd initrd;
    if (const auto& path = config_.boot_source->initrd_path) {
        initrd = TRY_CONTEXT("initrd", open_file(*path, O_RDONLY | O_NONBLOCK));
        request.initrd = boot::BootFile{initrd.get(), *path};
    }
    boot::EntryPoint entry = TRY(boot::set_up_boot(memory_, request));
    kernel_ = std::move(entry.kernel);
    host_.timeline.mark(Mark::kKernelLoaded);
    return {};
}

Result<void> Machine::connect_devices() {
    TRY(vm_.add_irqfd(console_irq_.get(), boot::kSerialGsi));
    for (size_t i = 0; i < transports_.size(); ++i) {
        const uint64_t notify = virtio_devices_[i].address.value + virtio::MmioTransport::kQueueNotify;
        for (unsigned queue = 0; queue < transports_[i]->queue_count(); ++queue)
            TRY(vm_.add_ioeventfd(transports_[i]->kick_fd(queue), notify, queue));
        TRY(vm_.add_irqfd(transports_[i]->irq_fd(), virtio_devices_[i].gsi));
    }
    return {};
}

// In any case, well or not: nobody may be at work on a machine that goes.
Result<void> Machine::wait_for_vcpus() {
    others_prepared_.wait();
    boot_vcpu_prepared_.wait();
    for (const auto& vcpu : vcpus_) TRY(vcpu->outcome());
    return {};
}

// The process that dropped the last reference to a VM would wait for several grace periods at its exit.
void Machine::stay_out_of_exit() {
    host_.loop.close_after_exit(vm_.fd());
    for (const auto& vcpu : vcpus_) host_.loop.close_after_exit(vcpu->fd().fd());
}

}  // namespace wisp
