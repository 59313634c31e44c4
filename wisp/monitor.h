// SPDX-License-Identifier: Apache-2.0
//
// Monitor: one run of the process, from nothing to the end of its VM. It owns the loop, the machine and what they tell
// the operator, and does for the Controller what the machine itself must do.
//
// Threads: the loop's, but for on_boot_done().
#pragma once

#include <array>
#include <memory>
#include <string>

#include "base/fd.h"
#include "base/loop.h"
#include "vmm/build/head_start.h"
#include "vmm/controller.h"
#include "vmm/machine.h"
#include "vmm/metrics/sink.h"
#include "vmm/policy/seccomp.h"
#include "vmm/stop.h"
#include "vmm/timeline.h"
#include "wisp/arguments.h"
#include "wisp/log_sink.h"
#include "wisp/signals.h"

namespace wisp {

class Monitor final : public MachineDriver {
public:
    /// Makes the loop and takes the signals over. `start_ns`: CLOCK_MONOTONIC at the start of the process.
    static Result<std::unique_ptr<Monitor>> create(const Arguments& arguments, const Seccomp& seccomp, LogSink& log,
                                                   uint64_t start_ns);

    Loop& loop() { return *loop_; }
    /// Tells what the API counts.
    void set_api_metrics(std::function<void(MetricsVisitor&)> source) { api_metrics_ = std::move(source); }
    /// All that is counted, in Prometheus' text format.
    std::string prometheus() const;

    /// What start() then goes on from; without it, it begins by itself.
    void set_head_start(std::unique_ptr<HeadStart> head_start) { head_start_ = std::move(head_start); }

    /// What the guest finds in its metadata service; must outlive the machine.
    void set_metadata(const mmds::DataStore& metadata) { metadata_ = &metadata; }

    /// Builds and starts the machine now, for a machine file.
    Result<void> start(const config::VmConfig& config);
    /// Runs until the VM ends or a signal comes. `before_exit` removes the API's socket, where that is ours to do.
    /// Returns the exit code, or ends the process by the signal.
    int run(const std::function<void()>& before_exit);
    /// Ends run() with this code.
    void stop(ExitCode code, std::string message);

    // For the Controller
    void start(const config::VmConfig& config, Handler done) override { done(start(config)); }
    void pause(Handler done) override;
    void resume(Handler done) override;
    void create_snapshot(const config::SnapshotCreate& request, Handler done) override;
    void load_snapshot(const config::SnapshotLoad& request,
                       std::move_only_function<void(Result<config::VmConfig>)> done) override;
    Result<void> patch_drive(const config::DrivePatch& patch) override;
    Result<void> patch_network_interface(const config::NetworkInterfacePatch& patch) override;
    Result<void> send_ctrl_alt_del() override;
    Result<void> flush_metrics() override;
    Result<void> listen_for_vsock(const config::Vsock& vsock) override;
    Result<void> configure_logger(const config::Logger& logger) override { return log_.configure(logger); }
    Result<void> configure_metrics(const config::Metrics& metrics) override;
    void took(Operation operation, uint64_t us) override;

private:
    Monitor(const Arguments& arguments, const Seccomp& seccomp, LogSink& log, uint64_t start_ns)
        : arguments_(arguments), seccomp_(seccomp), log_(log), timeline_(start_ns) {}
    void on_boot_done(uint64_t exits);  // vCPU thread
    void on_signal(int number);
    void say_how_it_ended() const;
    void visit_metrics(MetricsVisitor& visitor) const;
    void machine_took(Operation operation, uint64_t start_ns);

    const Arguments& arguments_;
    const Seccomp& seccomp_;
    LogSink& log_;
    Timeline timeline_;
    std::unique_ptr<Loop> loop_;
    std::unique_ptr<SignalWatch> signals_;
    std::unique_ptr<StopSink> stop_sink_;
    std::unique_ptr<HeadStart> head_start_;
    std::shared_ptr<UnixListener> vsock_listener_;  // of the last PUT; the machine's too
    std::unique_ptr<Machine> machine_;
    std::unique_ptr<MetricsSink> metrics_;
    std::function<void(MetricsVisitor&)> api_metrics_;
    std::array<uint64_t, kOperations> latencies_us_{}, machine_latencies_us_{};  // of the last of each kind
    uint64_t process_startup_us_ = 0, process_startup_cpu_us_ = 0;
    const mmds::DataStore* metadata_ = nullptr;
    uint64_t build_start_ns_ = 0, build_start_cpu_us_ = 0;  // the second from start() on
    Stop end_;
    int end_signal_ = 0;
};

}  // namespace wisp
