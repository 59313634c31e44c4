// SPDX-License-Identifier: Apache-2.0
#include "wisp/monitor.h"

#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "base/log.h"
#include "vmm/preflight.h"

namespace wisp {

namespace {

uint64_t clock_us(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

}  // namespace

Result<std::unique_ptr<Monitor>> Monitor::create(const Arguments& arguments, const Seccomp& seccomp, LogSink& log,
                                                 uint64_t start_ns) {
    std::unique_ptr<Monitor> monitor(new Monitor(arguments, seccomp, log, start_ns));
    monitor->loop_ = TRY(Loop::create());
    monitor->metrics_ =
        std::make_unique<MetricsSink>(*monitor->loop_, arguments.id, [self = monitor.get()](JsonMetrics& line) {
            line.left_out_groups();
            self->visit_metrics(line);
        });
    if (arguments.metrics_path)
        TRY_CONTEXT("--metrics-path " + *arguments.metrics_path,
                    monitor->configure_metrics({*arguments.metrics_path, false, {}}));
    if (!monitor->loop_->uses_io_uring())
        LOG_WARNING("the event loop uses epoll: %s", monitor->loop_->fallback_reason().c_str());
    monitor->signals_ =
        TRY(SignalWatch::create(*monitor->loop_, [self = monitor.get()](int number) { self->on_signal(number); }));
    monitor->stop_sink_ = std::make_unique<StopSink>(*monitor->loop_, [self = monitor.get()](Stop reason) {
        self->end_ = std::move(reason);
        self->loop_->stop();
    });
    monitor->process_startup_us_ = (monotonic_ns() - start_ns) / 1000;
    monitor->process_startup_cpu_us_ = clock_us(CLOCK_PROCESS_CPUTIME_ID) - arguments.start_time_cpu_us.value_or(0) +
                                       arguments.parent_cpu_time_us.value_or(0);
    return monitor;
}

Result<void> Monitor::start(const config::VmConfig& config) {
    build_start_cpu_us_ = clock_us(CLOCK_PROCESS_CPUTIME_ID);
    if (!head_start_) head_start_ = TRY(HeadStart::begin());
    build_start_ns_ = head_start_->begun_at_ns();
    machine_ = TRY(Machine::launch({*loop_, *stop_sink_, timeline_, seccomp_,
                                    [this](uint64_t exits) { on_boot_done(exits); }, vsock_listener_, metadata_},
                                   config, std::move(head_start_)));
    metrics_->start();
    return {};
}

void Monitor::on_boot_done(uint64_t exits) {
    timeline_.mark(Mark::kInit, exits);
    if (!arguments_.boot_timer) return;
    const uint64_t us = (monotonic_ns() - build_start_ns_) / 1000;
    const uint64_t cpu_us = clock_us(CLOCK_PROCESS_CPUTIME_ID) - build_start_cpu_us_;
    LOG_INFO("Guest-boot-time = %6lu us %lu ms, %6lu CPU us %lu CPU ms", us, us / 1000, cpu_us, cpu_us / 1000);
}

void Monitor::on_signal(int number) {
    end_signal_ = number;
    loop_->stop();
}

void Monitor::stop(ExitCode code, std::string message) {
    end_ = {code, std::move(message)};
    loop_->stop();
}

int Monitor::run(const std::function<void()>& before_exit) {
    if (auto ran = loop_->run(); !ran) end_ = {ExitCode::kGenericError, ran.error().message};
    if (machine_) machine_->finish();
    (void)flush_metrics();
    // A client removes the sockets that it has asked for, as with Firecracker, and may take it for an error if they are
    // gone by themselves. Whoever ends us by a signal, or runs us without an API, has nothing left to clean up.
    if (end_signal_ || arguments_.no_api) {
        if (vsock_listener_) vsock_listener_->unlink();
        if (machine_) machine_->unlink_sockets();
        before_exit();
    }
    say_how_it_ended();
    if (end_signal_) die_by_signal(end_signal_);
    return static_cast<int>(end_.code);
}

void Monitor::say_how_it_ended() const {
    if (const auto status = machine_ ? machine_->guest_exit_status() : std::nullopt)
        LOG_INFO("Guest-exit-status = %u", *status);
    if (arguments_.timeline) fputs(timeline_.to_string().c_str(), stderr);
    LOG_INFO("Vmm is stopping.");
    if (end_signal_)
        LOG_INFO("Wisp stopped by %s", strsignal(end_signal_));
    else if (end_.code == ExitCode::kOk)
        LOG_INFO("Wisp exiting successfully. exit_code=0: %s", end_.message.c_str());
    else
        LOG_ERROR("Wisp exiting with error. exit_code=%d: %s", static_cast<int>(end_.code), end_.message.c_str());
}

void Monitor::pause(Handler done) {
    machine_->pause([this, start_ns = monotonic_ns(), done = std::make_shared<Handler>(std::move(done))] {
        machine_took(Operation::kPause, start_ns);
        (*done)({});
    });
}

void Monitor::resume(Handler done) {
    const uint64_t start_ns = monotonic_ns();
    machine_->resume();
    machine_took(Operation::kResume, start_ns);
    done({});
}

void Monitor::create_snapshot(const config::SnapshotCreate&, Handler done) {
    done(fail("snapshots are not part of this version of Wisp"));
}

void Monitor::load_snapshot(const config::SnapshotLoad&, std::move_only_function<void(Result<config::VmConfig>)> done) {
    done(fail("snapshots are not part of this version of Wisp"));
}

Result<void> Monitor::patch_drive(const config::DrivePatch& patch) {
    return machine_->patch_drive(patch);
}

Result<void> Monitor::patch_network_interface(const config::NetworkInterfacePatch& patch) {
    return machine_->patch_network_interface(patch);
}

Result<void> Monitor::send_ctrl_alt_del() {
    return machine_->send_ctrl_alt_del();
}

Result<void> Monitor::listen_for_vsock(const config::Vsock& vsock) {
    if (vsock_listener_ && vsock_listener_->path() == vsock.uds_path) vsock_listener_.reset();
    vsock_listener_ = std::make_shared<UnixListener>(TRY(wisp::listen_for_vsock(vsock.uds_path)));
    return {};
}

Result<void> Monitor::configure_metrics(const config::Metrics& metrics) {
    return metrics_->open(metrics);
}

Result<void> Monitor::flush_metrics() {
    return metrics_->flush();
}

}  // namespace wisp
