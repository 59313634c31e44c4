// SPDX-License-Identifier: Apache-2.0
//
// wisp: the composition root. Everything is made here, in order, and handed to those that need it.
#include <fcntl.h>
#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

#include "api/router.h"
#include "api/server.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/version.h"
#include "vmm/build/boot.h"
#include "vmm/config/json.h"
#include "vmm/config/vm_config.h"
#include "vmm/controller.h"
#include "vmm/policy/seccomp.h"
#include "wisp/arguments.h"
#include "wisp/monitor.h"
#include "wisp/signals.h"

namespace wisp {

namespace {

/// What a log says before the reason, for tools that look for it there.
constexpr const char* kBadMachineFile =
    "Failed to build MicroVM from Json: Configuration for VMM from one single json failed: ";
constexpr const char* kNotStarted = "Failed to build MicroVM from Json: Could not Start MicroVM from one single json: ";

/// Whether both are one file, pipe or terminal.
bool same_file(int one, int other) {
    struct stat a{}, b{};
    return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// One line on standard error. A log that goes elsewhere has it too.
int give_up(ExitCode code, const Error& error, const char* logged_before = "") {
    if (!same_file(log::config().fd, STDERR_FILENO)) {
        LOG_ERROR("%s%s", logged_before, error.message.c_str());
        LOG_ERROR("Wisp exiting with error. exit_code=%d", static_cast<int>(code));
    }
    fprintf(stderr, "wisp: %s\n", error.message.c_str());
    return static_cast<int>(code);
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

/// What --config-file names, if it is given.
Result<std::optional<config::VmConfig>> load_machine_file(const Arguments& arguments) {
    if (!arguments.config_file) return std::nullopt;
    auto config = TRY(config::load_config_file(*arguments.config_file));
    if (!config.boot_source) return fail("%s: boot-source is missing", arguments.config_file->c_str());
    return config;
}

/// Those that a machine file names.
Result<void> configure_sinks(const std::optional<config::VmConfig>& config, Monitor& monitor) {
    if (config && config->logger)
        TRY_CONTEXT("logger " + config->logger->log_path.value_or(""), monitor.configure_logger(*config->logger));
    if (config && config->metrics)
        TRY_CONTEXT("metrics " + config->metrics->metrics_path, monitor.configure_metrics(*config->metrics));
    return {};
}

/// What --metadata names becomes the guest's metadata.
Result<void> load_metadata(const Arguments& arguments, mmds::DataStore& store) {
    if (!arguments.metadata) return {};
    const std::string text = TRY_CONTEXT("--metadata", read_file(*arguments.metadata, limits::kMaxConfigFile));
    auto parsed = config::parse_json_strict(text);
    if (!parsed)
        return fail("MMDS error: metadata provided not valid json: %s: %s", arguments.metadata->c_str(),
                    parsed.error().message.c_str());
    return store.put(*std::move(parsed));
}

/// Starts what a machine file describes, at once.
Result<void> start_from_file(Monitor& monitor) {
    TRY(monitor.start_here());
    LOG_INFO("Successfully started microvm that was configured from one single json");
    return {};
}

/// Control gets its thread, and this one runs the devices until control ends the process.
int run_devices(Monitor& monitor, Loop& devices, const Seccomp& seccomp, bool machine_runs,
                std::function<void()> unlink_api_socket) {
    if (auto started = monitor.start_thread(std::move(unlink_api_socket)); !started)
        return give_up(ExitCode::kGenericError, started.error());
    // From here on control ends the process, in order.
    if (machine_runs)  // nothing is built any more
        if (auto installed = seccomp.install(policy::Phase::kLoop); !installed)
            monitor.stop_sink().request({ExitCode::kBadConfiguration, installed.error().message});
    if (auto ran = devices.run(); !ran) monitor.stop_sink().request({ExitCode::kGenericError, ran.error().message});
    std::atomic<bool> for_ever = true;
    for (;;) for_ever.wait(true);
}

int run_without_api(const Arguments& arguments, Monitor& monitor, Loop& devices, const Seccomp& seccomp) {
    auto& metadata = *new mmds::DataStore(arguments.mmds_limit());  // never taken down: threads run to the end
    if (auto loaded = load_metadata(arguments, metadata); !loaded)
        return give_up(ExitCode::kBadConfiguration, loaded.error());
    monitor.set_metadata(metadata);
    static const api::Counters no_requests;
    monitor.set_api_metrics([](MetricsVisitor& visitor) { no_requests.visit(visitor); });
    if (auto started = start_from_file(monitor); !started)
        return give_up(ExitCode::kBadConfiguration, started.error(), kNotStarted);
    return run_devices(monitor, devices, seccomp, true, [] {});
}

/// What serves the API. Never taken down: threads run to the end.
struct Api {
    Api(const Arguments& arguments, Monitor& monitor)
        : controller(arguments.id, monitor, arguments.mmds_limit()),
          router(controller, [&monitor] { return monitor.prometheus(); }) {}

    Result<void> listen(const Arguments& arguments, Monitor& monitor) {
        server = TRY(api::Server::create(
            monitor.loop(), arguments.api_sock, arguments.http_api_max_payload_size,
            [this](api::Request request, api::Server::Reply reply) {
                router.handle(std::move(request), std::move(reply));
            },
            [&monitor] { monitor.end(ExitCode::kGenericError, "a request could not be undone"); }));
        return {};
    }

    Controller controller;
    api::Router router;
    std::unique_ptr<api::Server> server;
};

int run_with_api(const Arguments& arguments, Monitor& monitor, Loop& devices, const Seccomp& seccomp) {
    Api& api = *new Api(arguments, monitor);
    if (auto loaded = load_metadata(arguments, api.controller.mmds()); !loaded)
        return give_up(ExitCode::kBadConfiguration, loaded.error());
    monitor.set_metadata(api.controller.mmds());
    monitor.set_api_metrics([&api](MetricsVisitor& visitor) { api.router.counters().visit(visitor); });
    if (auto listening = api.listen(arguments, monitor); !listening)
        return give_up(ExitCode::kGenericError, listening.error());
    if (arguments.config_file) {
        if (auto started = start_from_file(monitor); !started) {
            api.server->unlink();
            return give_up(ExitCode::kBadConfiguration, started.error(), kNotStarted);
        }
        api.controller.adopt_running_machine();
    }
    return run_devices(monitor, devices, seccomp, arguments.config_file.has_value(), [&api] { api.server->unlink(); });
}

int run(std::span<const char* const> words, uint64_t start_ns) {
    auto& arguments_or_error = *new auto(parse_arguments(words));  // never taken down: threads run to the end
    if (!arguments_or_error) return give_up(ExitCode::kArgumentParsing, arguments_or_error.error());
    const Arguments& arguments = *arguments_or_error;
    if (print_and_leave(arguments)) return 0;
    if (arguments.bad_level)
        return give_up(ExitCode::kBadConfiguration, {"Invalid value for logger level: '" + *arguments.bad_level +
                                                     "'. Possible values: [Off, Error, Warning, Info, Debug, Trace]"});
    if (arguments.task != Task::kRun)
        return give_up(ExitCode::kGenericError, {"snapshots are not part of this version of Wisp"});
    if (arguments.start_time_us) start_ns = *arguments.start_time_us * 1000;
    LogSink& log_sink = *new LogSink(arguments.id);
    if (auto opened = log_sink.configure(arguments.logger); !opened)
        return give_up(ExitCode::kGenericError,
                       std::move(opened).error().with_context("--log-path " + *arguments.logger.log_path));
    auto& seccomp = *new auto(arguments.no_seccomp ? Seccomp::none() : Seccomp::create(arguments.seccomp_filter));
    if (!seccomp) return give_up(ExitCode::kGenericError, seccomp.error());
    std::unique_ptr<build::Boot> boot;
    if (arguments.config_file) {
        auto begun = build::Boot::begin();
        if (!begun) return give_up(ExitCode::kBadConfiguration, begun.error());
        boot = *std::move(begun);
    }
    // Before anything else is read: from here on all threads are under the filter of the set-up phase.
    if (auto installed = seccomp->install(policy::Phase::kSetUp); !installed)
        return give_up(ExitCode::kGenericError, installed.error());
    LOG_INFO("Running Wisp v%s (Firecracker API v%s)", kWispVersion, kFirecrackerVersion);

    auto config = load_machine_file(arguments);
    if (!config) return give_up(ExitCode::kBadConfiguration, config.error(), kBadMachineFile);
    auto devices = Loop::create();
    if (!devices) return give_up(ExitCode::kGenericError, devices.error());
    auto monitor = Monitor::create(arguments, *seccomp, log_sink, start_ns, **devices);
    if (!monitor) return give_up(ExitCode::kGenericError, monitor.error());
    if (auto set = configure_sinks(*config, **monitor); !set)
        return give_up(ExitCode::kBadConfiguration, set.error(), kBadMachineFile);
    Monitor& running = *monitor->release();
    if (*config) running.config() = **std::move(config);
    running.set_begun(std::move(boot));
    return arguments.no_api ? run_without_api(arguments, running, **devices, *seccomp)
                            : run_with_api(arguments, running, **devices, *seccomp);
}

/// Descriptors 0 to 2 must be what they are called: a file of ours that got the number of a closed one would be written
/// to.
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
    _exit(code);
}
