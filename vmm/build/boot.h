// SPDX-License-Identifier: Apache-2.0
//
// Boot: the recipe by which a machine that a configuration describes comes to be, from nothing to vCPUs in the guest.
// The table in boot.cc is the order.
//
// Threads: begin() and run() on the loop's thread.
#pragma once

#include <memory>

#include "base/worker.h"
#include "vmm/boot/load/kernel.h"
#include "vmm/build/blank_vm.h"
#include "vmm/build/lanes.h"
#include "vmm/machine.h"

namespace wisp::build {

class Boot {
public:
    /// Starts the steps that need no configuration, on the boot vCPU's thread, if that has a CPU of its own.
    static Result<std::unique_ptr<Boot>> begin();
    Boot(const Boot&) = delete;
    Boot& operator=(const Boot&) = delete;
    /// Ends the boot vCPU's thread if run() was not called.
    ~Boot();

    /// CLOCK_MONOTONIC at the beginning, in nanoseconds.
    uint64_t begun_at_ns() const { return begun_at_ns_; }

    /// Builds the machine and lets its vCPUs run; once. `config` has a boot source. A failure leaves nothing behind.
    Result<std::unique_ptr<Machine>> run(const MachineHost& host, const config::VmConfig& config);

    /// For tests: the table.
    static std::span<const StepPlan> plan();

private:
    explicit Boot(Lanes::Cpus cpus);

    // The steps, in the order of the table.
    Result<void> open_kvm(unsigned) { return blank_.open_kvm(); }
    Result<void> create_vm(unsigned) { return blank_.create_vm(); }
    Result<void> read_cpuid(unsigned) { return blank_.read_cpuid(); }
    Result<void> map_memory(unsigned);
    Result<void> place_devices(unsigned);
    Result<void> start_vcpu_threads(unsigned);
    Result<void> set_up_vm(unsigned);
    Result<void> load_guest(unsigned);
    Result<void> install_vcpu_filter(unsigned);
    Result<void> create_vcpu(unsigned id);
    Result<void> add_devices(unsigned);
    Result<void> connect_devices(unsigned);
    Result<void> set_entry(unsigned);
    Result<void> start_console(unsigned);
    Result<void> touch_early_pages(unsigned);
    Result<void> let_vcpus_go(unsigned);
    Result<void> enter_guest(unsigned) { return {}; }
    Result<void> start_drive_writers(unsigned);
    Result<void> close_after_exit(unsigned);
    struct Table;

    Result<void> start_boot_vcpu_thread();
    void run_boot_vcpu_lane();
    void run_other_vcpu_lane(unsigned id);
    Result<config::CpuConfig> cpu_config() const;

    const uint64_t begun_at_ns_ = monotonic_ns();
    Lanes lanes_;
    BlankVm blank_;

    // From run() on.
    const MachineHost* host_ = nullptr;
    const config::VmConfig* config_ = nullptr;
    std::unique_ptr<Machine> machine_;
    boot::LoadedKernel kernel_;

    std::unique_ptr<Worker> boot_vcpu_thread_;  // last, and until the machine owns it
};

}  // namespace wisp::build
