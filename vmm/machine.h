// SPDX-License-Identifier: Apache-2.0
//
// Machine: one VM with all that belongs to it, built in one go by launch() (vmm/build/builder.cc tells the story) and
// then run.
//
// A machine that has run is not taken apart: the process ends, and the kernel undoes everything faster than we could.
//
// Threads: the loop's.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/bus.h"
#include "base/guest_memory.h"
#include "base/loop.h"
#include "base/metrics.h"
#include "base/once.h"
#include "virtio/block/device.h"
#include "virtio/mmio.h"
#include "virtio/vsock/device.h"
#include "vmm/boot/boot.h"
#include "vmm/build/head_start.h"
#include "vmm/config/vm_config.h"
#include "vmm/devices/console.h"
#include "vmm/devices/guest_page.h"
#include "vmm/devices/i8042.h"
#include "vmm/devices/interfaces.h"
#include "vmm/devices/pit.h"
#include "vmm/devices/power.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vcpu.h"
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
    /// The guest reported the end of its boot, after so many exits. On a vCPU's thread, even before launch() has
    /// returned.
    std::function<void(uint64_t exits)> on_boot_done;
    std::shared_ptr<UnixListener> vsock_listener;  ///< where host programs find the guest already; or null
    const mmds::DataStore* metadata = nullptr;     ///< what the guest's metadata service shows; null: there is none
};

class Machine {
public:
    /// Builds the VM that `config` describes, from the VM that `head_start` begins, and lets its vCPUs run. `config`
    /// has a boot source.
    static Result<std::unique_ptr<Machine>> launch(const MachineHost& host, const config::VmConfig& config,
                                                   std::unique_ptr<HeadStart> head_start);

    /// Gets all vCPUs out of the guest and all I/O in flight done, then calls `on_paused`, on the loop.
    void pause(std::function<void()> on_paused);
    /// Goes on where pause() stopped.
    void resume();

    /// Puts another file under a drive, or changes its limits, while the machine runs.
    Result<void> patch_drive(const config::DrivePatch& patch);
    /// Changes an interface's limits.
    Result<void> patch_network_interface(const config::NetworkInterfacePatch& patch) { return net_.patch(patch); }

    /// Presses Ctrl-Alt-Del on the guest's keyboard. An error if the guest has not read what was pressed before.
    Result<void> send_ctrl_alt_del() { return i8042_.send_ctrl_alt_del(); }

    /// The last output goes out, the terminal is given back.
    void finish();
    /// Host programs find the guest no more.
    void unlink_sockets();

    /// What devices and vCPUs count.
    void visit_metrics(MetricsVisitor& visitor);
    /// The same of a machine that is not there yet.
    static void visit_no_metrics(MetricsVisitor& visitor);

    /// Exits of all vCPUs to this process.
    uint64_t exits() const;
    std::optional<unsigned> guest_exit_status() const { return status_.exit_status(); }

private:
    Machine(const MachineHost& host, const config::VmConfig& config, std::unique_ptr<HeadStart> head_start);

    // The steps of launch(), in their order.
    Result<void> map_memory();
    Result<void> place_devices();
    Result<void> start_vcpu_threads();
    Result<void> start_boot_vcpu_thread();
    Result<void> start_vcpu_thread(unsigned id);
    Vcpu::World vcpu_world() const { return {mmio_, ports_, host_.stop, host_.timeline}; }
    void share_the_work();
    Result<void> set_up_vm();
    Result<VcpuFd> build_boot_vcpu();
    Result<void> add_devices();
    Result<void> add_platform_devices();
    void raise_keyboard_interrupt();
    Result<void> add_drives();
    Result<void> add_vsock();
    Result<void> add_virtio(std::unique_ptr<virtio::Device> device);
    Result<void> connect_devices();
    Result<void> wait_for_vcpus();
    void stay_out_of_exit();

    // On the vCPUs' own threads
    Result<VcpuFd> prepare_boot_vcpu();
    Result<VcpuFd> prepare_vcpu(unsigned id);
    // On whichever has the time
    void use_the_wait();
    Result<void> load_guest();
    Result<VcpuFd> create_vcpu(unsigned id);

    void pause_devices(std::function<void()> on_paused);

    const MachineHost host_;
    const config::VmConfig config_;

    // In the order in which they are made; C++ takes them down in reverse.
    GuestMemory memory_;
    const std::unique_ptr<HeadStart> head_start_;
    const Vm& vm_;
    Once<> vm_set_up_, guest_loaded_;
    Once<VcpuFd> boot_vcpu_;
    Bus mmio_, ports_;
    std::unique_ptr<Console> console_;
    OwnedFd console_irq_;
    Doorbell keyboard_bell_;
    I8042 i8042_;
    PowerDevice power_;
    LazyPit pit_;
    GuestStatus status_;
    NetInterfaces net_;
    std::vector<std::unique_ptr<virtio::MmioTransport>> transports_;
    std::vector<virtio::Block*> drives_;  // among the transports' devices, in the order of config_.drives
    virtio::Vsock* vsock_ = nullptr;      // likewise
    std::vector<boot::VirtioMmioDevice> virtio_devices_;
    boot::LoadedKernel kernel_;
    Doorbell vcpus_paused_;
    std::atomic<size_t> vcpus_to_pause_ = 0;
    std::function<void()> on_paused_;
    Countdown boot_vcpu_prepared_{1}, others_prepared_;
    std::vector<std::unique_ptr<Vcpu>> vcpus_;
};

/// A drive's or interface's limits as its device takes them.
virtio::RateLimiterConfig rate_limiter_of(const config::RateLimiter& wanted);
virtio::TokenBucketConfig token_bucket_of(const config::TokenBucket& wanted);

}  // namespace wisp
