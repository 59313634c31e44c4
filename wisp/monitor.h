// SPDX-License-Identifier: Apache-2.0
//
// Monitor: control of one run of the process, from its start to the end of its VM. It owns control's loop, the
// machine's control and what the operator is told, and does for the Controller what the machine itself must do.
//
// Control never waits for a disk, a tap, a reader or the guest: it has a thread and a loop of its own, beside the
// devices' (base/mailbox.h carries what one asks of the other).
//
// Threads: control's; until start_thread(), the main thread's. on_boot_done() runs on a vCPU's.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "base/loop.h"
#include "base/worker.h"
#include "vmm/machine_control.h"
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
    /// `start_ns`: CLOCK_MONOTONIC at the start of the process. `devices`: the main thread's loop.
    static Result<std::unique_ptr<Monitor>> create(const Arguments& arguments, const Seccomp& seccomp, LogSink& log,
                                                   uint64_t start_ns, Loop& devices);

    /// Control's loop.
    Loop& loop() { return *loop_; }
    /// Tells what the API counts.
    void set_api_metrics(std::function<void(MetricsVisitor&)> source) { api_metrics_ = std::move(source); }
    /// All that is counted, in Prometheus' text format.
    std::string prometheus() const;

    /// What a start goes on from; without it, it begins by itself.
    void set_begun(std::unique_ptr<build::Boot> boot) { machine_->set_begun(std::move(boot)); }
    /// What the guest finds in its metadata service; must outlive the machine.
    void set_metadata(const mmds::DataStore& metadata) { machine_->set_metadata(metadata); }

    /// Main thread, before start_thread(): builds and starts the machine that config() describes.
    Result<void> start_here();
    /// Main thread: gives control its thread. The thread ends the process when the VM ends,
    /// a signal comes or end() is called; it calls `unlink_api_socket` where the API's socket is ours to remove.
    Result<void> start_thread(std::function<void()> unlink_api_socket);

    /// Ends the process with this code, from any thread.
    StopSink& stop_sink() { return *stop_sink_; }
    /// The same, from control's.
    void end(ExitCode code, std::string message);

    // For the Controller
    config::VmConfig& config() override { return machine_->config(); }
    bool ending() const override { return ending_; }
    void start(Handler done) override;
    void pause(Handler done) override;
    void resume(Handler done) override;
    void create_snapshot(const config::SnapshotCreate& request, Handler done) override;
    void load_snapshot(const config::SnapshotLoad& request, Handler done) override;
    void patch_drive(const config::DrivePatch& patch, Handler done) override;
    void patch_network_interface(const config::NetworkInterfacePatch& patch, Handler done) override;
    Result<void> send_ctrl_alt_del() override { return machine_->send_ctrl_alt_del(); }
    Result<void> flush_metrics() override { return metrics_->flush(); }
    Result<void> listen_for_vsock(const config::Vsock& vsock) override;
    Result<void> configure_logger(const config::Logger& logger) override { return log_.configure(logger); }
    Result<void> configure_metrics(const config::Metrics& metrics) override { return metrics_->open(metrics); }
    void took(Operation operation, uint64_t us) override;

private:
    Monitor(const Arguments& arguments, const Seccomp& seccomp, LogSink& log, uint64_t start_ns, Loop& devices)
        : arguments_(arguments), seccomp_(seccomp), log_(log), timeline_(start_ns), devices_(devices) {}
    [[noreturn]] void run();
    void on_boot_done(uint64_t exits);  // vCPU thread
    void on_signal(int number);
    void close_machine();
    [[noreturn]] void end_process();
    void say_how_it_ended() const;
    Result<void> narrow_filter() { return seccomp_.install(policy::Phase::kControl); }
    void visit_metrics(MetricsVisitor& visitor) const;
    void machine_took(Operation operation, uint64_t start_ns);
    Handler timed(Operation operation, Handler done);

    const Arguments& arguments_;
    const Seccomp& seccomp_;
    LogSink& log_;
    Timeline timeline_;
    Loop& devices_;
    std::unique_ptr<Loop> loop_;
    std::unique_ptr<StopSink> stop_sink_;
    std::unique_ptr<MachineControl> machine_;
    std::unique_ptr<MetricsSink> metrics_;
    std::unique_ptr<SignalWatch> signals_;
    std::shared_ptr<UnixListener> vsock_listener_;  // of the last PUT; the machine's too
    std::function<void(MetricsVisitor&)> api_metrics_;
    std::function<void()> unlink_api_socket_;
    std::array<uint64_t, kOperations> latencies_us_{}, machine_latencies_us_{};  // of the last of each kind
    uint64_t process_startup_us_ = 0, process_startup_cpu_us_ = 0;
    std::atomic<uint64_t> build_start_cpu_us_ = 0;
    bool ending_ = false;
    Stop end_;
    int end_signal_ = 0;
    std::unique_ptr<Worker> thread_;
};

}  // namespace wisp
