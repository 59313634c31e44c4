// SPDX-License-Identifier: Apache-2.0
#include "wisp/monitor.h"

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "base/log.h"
#include "vmm/preflight.h"

namespace wisp {

namespace {

constexpr char kThreadName[] = "fc_api";    // Firecracker's name, which tools look for
constexpr size_t kThreadStack = 512 << 10;  // bytes; JSON nests as deep as its reader lets it

uint64_t clock_us(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

}  // namespace

// ---- the start ----

Result<std::unique_ptr<Monitor>> Monitor::create(const Arguments& arguments, const Seccomp& seccomp, LogSink& log,
                                                 uint64_t start_ns, Loop& devices) {
    std::unique_ptr<Monitor> monitor(new Monitor(arguments, seccomp, log, start_ns, devices));
    Monitor* const self = monitor.get();
    // Control's few descriptors are served as well by epoll, and a ring would cost memory and time.
    monitor->loop_ = TRY(Loop::create(Loop::Backend::kEpoll));
    // Taken over now: a signal that comes before control has its thread waits for it.
    monitor->signals_ = TRY(SignalWatch::create(*monitor->loop_, [self](int number) { self->on_signal(number); }));
    monitor->stop_sink_ = std::make_unique<StopSink>(
        *monitor->loop_, [self](Stop reason) { self->end(reason.code, std::move(reason.message)); });
    monitor->machine_ = std::make_unique<MachineControl>(
        *monitor->loop_, MachineHost{devices, *monitor->stop_sink_, self->timeline_, seccomp,
                                     [self](uint64_t exits) { self->on_boot_done(exits); }, nullptr, nullptr});
    monitor->metrics_ = std::make_unique<MetricsSink>(*monitor->loop_, arguments.id, [self](JsonMetrics& line) {
        line.left_out_groups();
        self->visit_metrics(line);
    });
    if (arguments.metrics_path)
        TRY_CONTEXT("--metrics-path " + *arguments.metrics_path,
                    monitor->configure_metrics({*arguments.metrics_path, false, {}}));
    if (!devices.uses_io_uring()) LOG_WARNING("the event loop uses epoll: %s", devices.fallback_reason().c_str());
    monitor->process_startup_us_ = (monotonic_ns() - start_ns) / 1000;
    monitor->process_startup_cpu_us_ = clock_us(CLOCK_PROCESS_CPUTIME_ID) - arguments.start_time_cpu_us.value_or(0) +
                                       arguments.parent_cpu_time_us.value_or(0);
    return monitor;
}

Result<void> Monitor::start_here() {
    build_start_cpu_us_ = clock_us(CLOCK_PROCESS_CPUTIME_ID);
    TRY(machine_->start_here());
    metrics_->start();
    return {};
}

Result<void> Monitor::start_thread(std::function<void()> unlink_api_socket) {
    unlink_api_socket_ = std::move(unlink_api_socket);
    thread_ = TRY_CONTEXT("control", Worker::start(kThreadName, kThreadStack));
    thread_->run([this] { run(); });
    return {};
}

void Monitor::start(Handler done) {
    build_start_cpu_us_ = clock_us(CLOCK_PROCESS_CPUTIME_ID);
    machine_->start([this, done = std::move(done)](Result<void> started) mutable {
        if (started) {
            metrics_->start();
            if (auto narrowed = narrow_filter(); !narrowed) end(ExitCode::kBadConfiguration, narrowed.error().message);
        }
        done(std::move(started));
    });
}

void Monitor::on_boot_done(uint64_t exits) {
    timeline_.mark(Mark::kInit, exits);
    if (!arguments_.boot_timer) return;
    const uint64_t us = (monotonic_ns() - machine_->build_start_ns()) / 1000;
    const uint64_t cpu_us = clock_us(CLOCK_PROCESS_CPUTIME_ID) - build_start_cpu_us_;
    LOG_INFO("Guest-boot-time = %6lu us %lu ms, %6lu CPU us %lu CPU ms", us, us / 1000, cpu_us, cpu_us / 1000);
}

// ---- control's thread ----

void Monitor::run() {
    if (machine_->machine())
        if (auto narrowed = narrow_filter(); !narrowed) end(ExitCode::kBadConfiguration, narrowed.error().message);
    if (auto ran = loop_->run(); !ran) end_ = {ExitCode::kGenericError, ran.error().message};
    end_process();
}

void Monitor::on_signal(int number) {
    if (!ending_) end_signal_ = number;  // an end that has begun stays what it is
    close_machine();
}

void Monitor::end(ExitCode code, std::string message) {
    if (!ending_) end_ = {code, std::move(message)};
    close_machine();
}

// The devices finish what they can in a moment; the process ends in any case.
void Monitor::close_machine() {
    if (std::exchange(ending_, true)) return;
    machine_->close([this](Result<void> closed) {
        if (!closed) LOG_WARNING("%s", closed.error().message.c_str());
        loop_->stop();
    });
}

void Monitor::end_process() {
    (void)flush_metrics();
    // A client removes the sockets that it has asked for, as with Firecracker, and may take it for an error if they are
    // gone by themselves. A process that ends by a signal, or that had no API, has no client that would.
    if (end_signal_ || arguments_.no_api) {
        if (vsock_listener_) vsock_listener_->unlink();
        machine_->unlink_sockets();
        unlink_api_socket_();
    }
    say_how_it_ended();
    fflush(stdout);
    if (end_signal_) die_by_signal(end_signal_);
    _exit(static_cast<int>(end_.code));  // nothing is taken down: the kernel does it faster
}

void Monitor::say_how_it_ended() const {
    const Machine* const machine = machine_->machine();
    if (const auto status = machine ? machine->guest_exit_status() : std::nullopt)
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

// ---- for the controller ----

/// Records how long the machine needed, where it succeeded.
MachineDriver::Handler Monitor::timed(Operation operation, Handler done) {
    return [this, operation, start_ns = monotonic_ns(), done = std::move(done)](Result<void> outcome) mutable {
        if (outcome) machine_took(operation, start_ns);
        done(std::move(outcome));
    };
}

void Monitor::pause(Handler done) {
    machine_->pause(timed(Operation::kPause, std::move(done)));
}

void Monitor::resume(Handler done) {
    machine_->resume(timed(Operation::kResume, std::move(done)));
}

void Monitor::create_snapshot(const config::SnapshotCreate&, Handler done) {
    done(fail("snapshots are not part of this version of Wisp"));
}

void Monitor::load_snapshot(const config::SnapshotLoad&, Handler done) {
    done(fail("snapshots are not part of this version of Wisp"));
}

void Monitor::patch_drive(const config::DrivePatch& patch, Handler done) {
    machine_->patch_drive(patch, std::move(done));
}

void Monitor::patch_network_interface(const config::NetworkInterfacePatch& patch, Handler done) {
    machine_->patch_network_interface(patch, std::move(done));
}

Result<void> Monitor::listen_for_vsock(const config::Vsock& vsock) {
    if (vsock_listener_ && vsock_listener_->path() == vsock.uds_path) {
        struct stat there{};
        if (stat(vsock.uds_path.c_str(), &there) == 0) return {};
        machine_->set_vsock_listener(nullptr);
        vsock_listener_.reset();
    }
    vsock_listener_ = std::make_shared<UnixListener>(TRY(wisp::listen_for_vsock(vsock.uds_path)));
    machine_->set_vsock_listener(vsock_listener_);
    return {};
}

}  // namespace wisp
