// SPDX-License-Identifier: Apache-2.0
//
// Machine: one VM with all that belongs to it while it runs: memory, buses, devices, vCPUs, and whether it is paused.
// How it comes to be is a recipe's business (vmm/build), which calls the building blocks below in its order.
//
// A machine whose guest has run is not taken apart: the process ends, and the kernel undoes everything faster.
//
// Threads: the loop's, but for what says otherwise.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bus.h"
#include "base/guest_memory.h"
#include "base/loop.h"
#include "base/metrics.h"
#include "virtio/mmio.h"
#include "virtio/vsock/device.h"
#include "vmm/boot/command_line.h"
#include "vmm/boot/layout.h"
#include "vmm/config/vm_config.h"
#include "vmm/devices/console.h"
#include "vmm/devices/drives.h"
#include "vmm/devices/guest_page.h"
#include "vmm/devices/i8042.h"
#include "vmm/devices/interfaces.h"
#include "vmm/devices/pit.h"
#include "vmm/devices/power.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"
#include "vmm/pause.h"
#include "vmm/policy/seccomp.h"
#include "vmm/stop.h"
#include "vmm/timeline.h"

namespace wisp {

/// What a machine is built into, which outlives it.
struct MachineHost {
    Loop& loop;
    StopSink& stop;
    Timeline& timeline;
    const Seccomp& seccomp;
    /// The guest reported the end of its boot, after so many exits. On a vCPU's thread, even before the recipe has
    /// ended.
    std::function<void(uint64_t exits)> on_boot_done;
    std::shared_ptr<UnixListener> vsock_listener;  ///< where host programs find the guest already; or null
    const mmds::DataStore* metadata = nullptr;     ///< what the guest's metadata service shows; null: there is none
};

class Machine final : private Pause::Parts {
public:
    explicit Machine(const MachineHost& host);
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;
    ~Machine();

    // ---- building blocks, for recipes ----

    Result<void> map_memory(const config::MachineConfig& wanted);
    /// Decides where each virtio device will be. The guest is told before the devices exist: a place follows from the
    /// order of the configuration alone.
    Result<void> place_devices(const config::VmConfig& config);
    /// TSS address, all memory slots, then the irqchip: each change once, in the order in which none waits for a grace
    /// period of the one before (vmm/kvm/kvm.h).
    Result<void> set_up_vm(Vm vm, Vm::DirtyLog dirty_log);
    Result<void> add_devices(const config::VmConfig& config);
    /// Connects the devices' eventfds to the VM: ioeventfds for kicks, irqfds for interrupts.
    Result<void> connect_devices();
    /// Carries the console's bytes from now on.
    Result<void> start_console() { return console_->start(); }
    /// Starts the drives' threads for cached writes. Once, before the filter of the loop's thread; the guest may run.
    void start_drive_writers() { drives_.start_writers(); }
    Vcpu& add_vcpu(unsigned id);
    /// Leaves the VM's descriptors to the loop's ring: the kernel then takes the VM down after the process has ended.
    /// The exit of a process that dropped the last reference would wait for several grace periods.
    void close_after_exit();

    const GuestMemory& memory() const { return memory_; }
    const Vm& vm() const { return vm_; }
    const std::vector<boot::VirtioMmioDevice>& virtio_devices() const { return virtio_devices_; }
    const std::vector<std::unique_ptr<Vcpu>>& vcpus() const { return vcpus_; }

    // ---- a machine that runs ----

    Pause& pause() { return pause_; }

    /// Replaces a drive's file, or changes its limits.
    Result<void> patch_drive(const config::DrivePatch& patch) { return drives_.patch(patch); }
    /// Changes an interface's limits.
    Result<void> patch_network_interface(const config::NetworkInterfacePatch& patch) { return net_.patch(patch); }

    /// Any thread: presses Ctrl-Alt-Del on the guest's keyboard. An error if the guest has not read what was pressed
    /// before.
    Result<void> send_ctrl_alt_del() { return i8042_.send_ctrl_alt_del(); }

    /// The process is about to end: the last output goes out, the terminal is given back, the taps are closed.
    void close();
    /// Any thread: removes the sockets where host programs find the guest.
    void unlink_sockets();

    /// Any thread: what devices and vCPUs count.
    void visit_metrics(MetricsVisitor& visitor);
    /// The same of a machine that is not there yet.
    static void visit_no_metrics(MetricsVisitor& visitor);

    /// Any thread: exits of all vCPUs to this process.
    uint64_t exits() const;
    /// Any thread: what the guest's init reported, if it did.
    std::optional<unsigned> guest_exit_status() const { return status_.exit_status(); }

private:
    Result<void> add_platform_devices(const std::optional<config::Serial>& serial);
    Result<void> add_vsock(const config::Vsock& vsock);
    Result<void> add_virtio(std::unique_ptr<virtio::Device> device);
    void raise_keyboard_interrupt();

    // For Pause
    void stop_vcpus() override;
    bool vcpus_stopped() const override;
    void stop_devices() override;
    bool devices_stopped() const override { return devices_running_ == 0; }
    void go_on() override;
    std::string unfinished() const override;

    const MachineHost host_;

    // In the order in which they are made; C++ takes them down in reverse.
    GuestMemory memory_;
    Vm vm_;
    Bus mmio_, ports_;
    OwnedFd console_irq_;
    std::unique_ptr<Console> console_;
    Doorbell keyboard_bell_;
    I8042 i8042_;
    PowerDevice power_;
    LazyPit pit_;
    GuestStatus status_;
    Drives drives_;
    NetInterfaces net_;
    virtio::Vsock* vsock_ = nullptr;  // among the transports' devices
    std::vector<boot::VirtioMmioDevice> virtio_devices_;
    struct Slot {
        std::unique_ptr<virtio::MmioTransport> transport;
        bool paused = false;
    };
    std::vector<Slot> slots_;
    Pause pause_;
    uint64_t pause_number_ = 0;  // an answer to an earlier one, which was given up, is dropped
    size_t devices_running_ = 0;
    Doorbell parked_bell_;
    std::vector<std::unique_ptr<Vcpu>> vcpus_;  // last: their threads end before what they use goes
};

}  // namespace wisp
