// SPDX-License-Identifier: Apache-2.0
//
// wisp: the composition root. Everything is made here, in order, and handed to those that need it.
#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>

#include "base/log.h"
#include "base/loop.h"
#include "vmm/arguments.h"
#include "vmm/config/vm_config.h"
#include "vmm/machine.h"
#include "vmm/signals.h"
#include "vmm/version.h"

namespace wisp {

namespace {

int give_up(ExitCode code, const Error& error) {
    fprintf(stderr, "wisp: %s\n", error.message.c_str());
    return static_cast<int>(code);
}

uint64_t cpu_time_us() {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

/// Prints a text and leaves, for --help and the like. True if that was the task.
bool print_and_leave(const Arguments& arguments) {
    switch (arguments.task) {
        case Task::kHelp:
            fputs(help_text().c_str(), stdout);
            return true;
        case Task::kVersion:
            fputs(version_text().c_str(), stdout);
            return true;
        default:
            return false;
    }
}

/// One run of the monitor with a machine file: from the configuration to the end of its VM.
class Monitor {
public:
    Monitor(const Arguments& arguments, uint64_t start_ns) : arguments_(arguments), timeline_(start_ns) {}

    int run() {
        auto config = config::load_config_file(*arguments_.config_file);
        if (!config) return give_up(ExitCode::kBadConfiguration, config.error());
        if (!config->boot_source)
            return give_up(ExitCode::kBadConfiguration, {*arguments_.config_file + ": boot-source is missing"});

        auto loop = Loop::create();
        if (!loop) return give_up(ExitCode::kGenericError, loop.error());
        loop_ = *std::move(loop);
        if (!loop_->uses_io_uring()) LOG_WARNING("the event loop uses epoll: %s", loop_->fallback_reason().c_str());
        auto signals = SignalWatch::create(*loop_, [this](int number) { on_signal(number); });
        if (!signals) return give_up(ExitCode::kGenericError, signals.error());
        signals_ = *std::move(signals);

        StopSink stop(*loop_, [this](Stop reason) { on_stop(std::move(reason)); });
        build_start_ns_ = monotonic_ns();
        build_start_cpu_us_ = cpu_time_us();
        auto machine = Machine::launch({*loop_, stop, timeline_, kernel_lease_signal(), [this](uint64_t exits) { on_boot_done(exits); }}, *config);
        if (!machine) return give_up(ExitCode::kBadConfiguration, machine.error());
        machine_ = *std::move(machine);
        LOG_INFO("Successfully started microvm that was configured from one single json");
        if (auto ran = loop_->run(); !ran) return give_up(ExitCode::kGenericError, ran.error());
        return end();
    }

private:
    void on_boot_done(uint64_t exits) {  // vCPU thread
        timeline_.mark(Mark::kInit, exits);
        if (!arguments_.boot_timer) return;
        const uint64_t us = (monotonic_ns() - build_start_ns_) / 1000, cpu_us = cpu_time_us() - build_start_cpu_us_;
        LOG_INFO("Guest-boot-time = %6lu us %lu ms, %6lu CPU us %lu CPU ms", us, us / 1000, cpu_us, cpu_us / 1000);
    }

    void on_stop(Stop reason) {
        end_ = std::move(reason);
        loop_->stop();
    }

    void on_signal(int number) {
        if (number == kernel_lease_signal()) return machine_->give_up_kernel_file();
        end_signal_ = number;
        loop_->stop();
    }

    int end() {
        machine_->finish();
        if (const auto status = machine_->guest_exit_status()) LOG_INFO("Guest-exit-status = %u", *status);
        if (arguments_.timeline) fputs(timeline_.to_string().c_str(), stderr);
        if (end_signal_) {
            LOG_INFO("stopped by %s", strsignal(end_signal_));
            die_by_signal(end_signal_);
        }
        if (end_.code == ExitCode::kOk)
            LOG_INFO("Wisp exits with code 0: %s", end_.message.c_str());
        else
            LOG_ERROR("Wisp exits with code %d: %s", static_cast<int>(end_.code), end_.message.c_str());
        return static_cast<int>(end_.code);
    }

    const Arguments& arguments_;
    Timeline timeline_;
    std::unique_ptr<Loop> loop_;
    std::unique_ptr<SignalWatch> signals_;
    std::unique_ptr<Machine> machine_;
    uint64_t build_start_ns_ = 0, build_start_cpu_us_ = 0;
    Stop end_;
    int end_signal_ = 0;
};

log::Config log_config(const Arguments& arguments) {
    log::Config config;
    config.instance_id = arguments.id;
    if (arguments.logger.level) config.level = static_cast<log::Level>(*arguments.logger.level);
    config.show_level = arguments.logger.show_level.value_or(false);
    config.show_origin = arguments.logger.show_log_origin.value_or(false);
    config.module = arguments.logger.module.value_or("");
    return config;
}

int run(std::span<const char* const> words, uint64_t start_ns) {
    auto arguments = parse_arguments(words);
    if (!arguments) return give_up(ExitCode::kArgumentParsing, arguments.error());
    if (print_and_leave(*arguments)) return 0;
    if (arguments->start_time_us) start_ns = *arguments->start_time_us * 1000;
    log::configure(log_config(*arguments));
    LOG_INFO("Running Wisp v%s (Firecracker API v%s)", kVersion, kFirecrackerVersion);
    if (!arguments->config_file || !arguments->no_api)
        return give_up(ExitCode::kArgumentParsing, {"this version has no API server yet: give --config-file and --no-api"});
    return (new Monitor(*arguments, start_ns))->run();
}

/// Descriptors 0 to 2 must be what they are called: a file of ours that got the number of a closed one would be written to.
void fill_standard_descriptors() {
    for (int fd = 0; fd <= 2; ++fd)
        if (fcntl(fd, F_GETFD) < 0) dup2(open("/dev/null", O_RDWR), fd);
}

}  // namespace

}  // namespace wisp

int main(int argc, char** argv) {
    const uint64_t start_ns = wisp::monotonic_ns();
    // A heap for each thread would cost each vCPU its own pages, and they allocate almost nothing.
    mallopt(M_ARENA_MAX, 1);
    wisp::fill_standard_descriptors();
    wisp::install_fatal_signal_handlers();
    const int code = wisp::run({argv + 1, static_cast<size_t>(argc > 0 ? argc - 1 : 0)}, start_ns);
    fflush(stdout);
    // Nothing is taken down: the kernel does it faster.
    _exit(code);
}
