// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine.h"

#include <sys/sysinfo.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/log.h"
#include "vmm/devices/vsock.h"

namespace wisp {

Machine::Machine(const MachineHost& host)
    : host_(host),
      keyboard_bell_(host.loop, [this] { raise_keyboard_interrupt(); }),
      i8042_(host.stop, [this] { keyboard_bell_.ring(); }),
      power_(host.stop),
      pit_(vm_),
      status_([this] { host_.on_boot_done(exits()); }),
      pause_(host.loop, *this),
      parked_bell_(host.loop, [this] { pause_.on_progress(); }) {}

Machine::~Machine() = default;

// ---- building blocks ----

namespace {

/// Memory and swap.
uint64_t host_memory_mib() {
    struct sysinfo info{};
    sysinfo(&info);
    return (static_cast<uint64_t>(info.totalram) + info.totalswap) * info.mem_unit / limits::kMiB;
}

MemoryBacking backing_of(const config::MachineConfig& wanted) {
    switch (wanted.huge_pages) {
        case config::HugePages::kTransparent:
            return MemoryBacking::transparent_huge();
        case config::HugePages::k2M:
            return MemoryBacking::huge_tlb_2m();
        default:
            return MemoryBacking::anonymous();
    }
}

}  // namespace

Result<void> Machine::map_memory(const config::MachineConfig& wanted) {
    // Density is made of oversubscription: it is allowed, and said.
    if (const uint64_t host_mib = host_memory_mib(); wanted.mem_size_mib > host_mib)
        LOG_WARNING("machine-config: mem_size_mib %lu is more than the %lu MiB of memory and swap that the host has",
                    wanted.mem_size_mib, host_mib);
    const auto ranges = boot::memory_ranges(wanted.mem_size_mib * limits::kMiB);
    memory_ = TRY(GuestMemory::create(ranges, backing_of(wanted)));
    if (wanted.track_dirty_pages) memory_.track_writes();  // what KVM's log does not see
    return {};
}

Result<void> Machine::place_devices(const config::VmConfig& config) {
    const size_t count = config.drives.size() + config.network_interfaces.size() + (config.vsock ? 1 : 0);
    if (count > limits::kMaxMmioDevices)
        return fail("%zu devices, but there are interrupts for %zu", count, limits::kMaxMmioDevices);
    for (uint32_t i = 0; i < count; ++i)
        virtio_devices_.push_back({{boot::kVirtioMmio.value + i * boot::kMmioSlotSize}, boot::kFirstDeviceGsi + i});
    return {};
}

Result<void> Machine::set_up_vm(Vm vm, Vm::DirtyLog dirty_log) {
    vm_ = std::move(vm);
    TRY(vm_.set_tss_address(boot::kKvmTss));
    for (uint32_t slot = 0; slot < memory_.regions().size(); ++slot)
        TRY(vm_.set_memory_slot(slot, memory_.regions()[slot], dirty_log));
    TRY(vm_.create_irqchip());
    host_.timeline.mark(Mark::kVmCreated);
    return {};
}

Result<void> Machine::add_devices(const config::VmConfig& config) {
    const auto add = [this](auto device) { return add_virtio(std::move(device)); };
    TRY(add_platform_devices(config.serial));
    TRY(drives_.create(
        host_.loop, config.drives, [this] { return host_.seccomp.install(policy::Phase::kDrive); }, add));
    TRY(net_.create(host_.loop, config, host_.metadata, add));
    if (config.vsock) TRY(add_vsock(*config.vsock));
    return {};
}

Result<void> Machine::add_platform_devices(const std::optional<config::Serial>& serial) {
    console_irq_ = TRY(create_eventfd());
    const auto output = serial ? serial->serial_out_path : std::nullopt;
    console_ = TRY(Console::create(host_.loop, output, [fd = console_irq_.get()] { signal_eventfd(fd); }));
    if (serial && serial->rate_limiter && serial->rate_limiter->limits()) console_->limit(*serial->rate_limiter);

    TRY(ports_.insert(boot::kSerialPort, boot::kSerialPortCount, console_->serial(), "serial port"));
    TRY(ports_.insert(boot::kKeyboardDataPort, 1, i8042_.data_port(), "i8042 data"));
    TRY(ports_.insert(boot::kKeyboardCommandPort, 1, i8042_.command_port(), "i8042 command"));
    TRY(ports_.insert(boot::kSleepControlPort, 2, power_, "ACPI sleep registers"));
    TRY(ports_.insert(LazyPit::kCounterPorts, 4, pit_.counters(), "i8254"));
    TRY(ports_.insert(LazyPit::kSpeakerPort, 1, pit_.speaker(), "i8254 speaker port"));
    return mmio_.insert(boot::kBootTimer.value, boot::kMmioSlotSize, status_, "boot timer");
}

// On the loop's thread in any case, so that vCPU threads need not be allowed the call.
void Machine::raise_keyboard_interrupt() {
    if (auto raised = vm_.pulse_irq_line(boot::kKeyboardGsi); !raised)
        LOG_LIMITED("i8042: %s", raised.error().message.c_str());
}

Result<void> Machine::add_vsock(const config::Vsock& vsock) {
    auto device = TRY(create_vsock(host_.loop, vsock, host_.vsock_listener));
    vsock_ = device.get();
    return add_virtio(std::move(device));
}

Result<void> Machine::add_virtio(std::unique_ptr<virtio::Device> device) {
    CHECK(slots_.size() < virtio_devices_.size());
    const boot::VirtioMmioDevice& place = virtio_devices_[slots_.size()];
    auto transport = TRY(virtio::MmioTransport::create(host_.loop, memory_, std::move(device)));
    TRY(mmio_.insert(place.address.value, boot::kMmioSlotSize, *transport, transport->device().name()));
    slots_.push_back({std::move(transport)});
    return {};
}

Result<void> Machine::connect_devices() {
    TRY(vm_.add_irqfd(console_irq_.get(), boot::kSerialGsi));
    for (size_t i = 0; i < slots_.size(); ++i) {
        const virtio::MmioTransport& transport = *slots_[i].transport;
        const uint64_t notify = virtio_devices_[i].address.value + virtio::MmioTransport::kQueueNotify;
        for (unsigned queue = 0; queue < transport.queue_count(); ++queue)
            TRY(vm_.add_ioeventfd(transport.kick_fd(queue), notify, queue));
        TRY(vm_.add_irqfd(transport.irq_fd(), virtio_devices_[i].gsi));
    }
    return {};
}

Vcpu& Machine::add_vcpu(unsigned id) {
    CHECK(id == vcpus_.size());
    return *vcpus_.emplace_back(
        std::make_unique<Vcpu>(id, Vcpu::World{mmio_, ports_, host_.stop, host_.timeline, parked_bell_}));
}

void Machine::close_after_exit() {
    host_.loop.close_after_exit(vm_.fd());
    for (const auto& vcpu : vcpus_) host_.loop.close_after_exit(vcpu->fd().fd());
}

// ---- pause ----

void Machine::stop_vcpus() {
    for (const auto& vcpu : vcpus_) vcpu->pause();
}

bool Machine::vcpus_stopped() const {
    for (const auto& vcpu : vcpus_)
        if (!vcpu->parked()) return false;
    return true;
}

void Machine::stop_devices() {
    const uint64_t number = ++pause_number_;
    console_->pause();
    devices_running_ = slots_.size();
    for (Slot& slot : slots_) slot.paused = false;
    for (Slot& slot : slots_)
        slot.transport->device().pause([this, number, &slot] {
            if (number != pause_number_) return;
            slot.paused = true;
            --devices_running_;
            pause_.on_progress();
        });
}

void Machine::go_on() {
    ++pause_number_;
    console_->resume();
    for (Slot& slot : slots_) slot.transport->device().resume();
    for (const auto& vcpu : vcpus_) vcpu->resume();
}

std::string Machine::unfinished() const {
    std::string names;
    const auto add = [&names](const std::string& name) { names += (names.empty() ? "" : ", ") + name; };
    for (const auto& vcpu : vcpus_)
        if (!vcpu->parked()) add(format("vCPU %u", vcpu->id()));
    if (names.empty())
        for (const Slot& slot : slots_)
            if (!slot.paused) add(slot.transport->device().name());
    return names;
}

// ---- the end, and what is asked of it ----

void Machine::close() {
    console_->finish();
    net_.close();
    drives_.close();
}

void Machine::unlink_sockets() {
    if (vsock_) vsock_->unlink_socket();
}

uint64_t Machine::exits() const {
    uint64_t sum = 0;
    for (const auto& vcpu : vcpus_) sum += vcpu->exits();
    return sum;
}

}  // namespace wisp
