// SPDX-License-Identifier: Apache-2.0
#include "jailer/jail.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <span>

#include "jailer/capabilities.h"
#include "jailer/cgroup.h"
#include "jailer/deadline.h"
#include "jailer/descriptors.h"
#include "jailer/devices.h"
#include "jailer/executable.h"
#include "jailer/file_owner.h"
#include "jailer/identity.h"
#include "jailer/landlock.h"
#include "jailer/mount_namespace.h"
#include "jailer/network_namespace.h"
#include "jailer/pid_file.h"
#include "jailer/program.h"
#include "jailer/resource_limits.h"
#include "jailer/second_thread.h"
#include "jailer/spawn.h"

namespace wisp::jailer {

namespace {

// What the steps hand on to each other. `undo` comes last: it goes by descriptors that the others own.
struct Jail {
    explicit Jail(const Options& wanted) : options(wanted) {}

    const Options& options;
    uint64_t start_us = 0, start_cpu_us = 0, parent_cpu_us = 0;
    Executable executable;
    OwnedFd copy, null;
    Directory base, by_name, by_id, root, dev, dev_net, run;
    Cgroups cgroups;
    Spawned spawned;
    Undo undo;
};

struct Step {
    const char* name;
    Result<void> (*run)(Jail&);
};

uint64_t monotonic_us() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1'000;
}

Result<void> note_start(Jail& jail) {
    jail.start_us = monotonic_us();
    jail.start_cpu_us = own_cpu_time_us();
    return {};
}

Result<void> open_inputs(Jail& jail) {
    jail.executable = TRY(open_executable(jail.options.exec_file));
    jail.base = TRY(open_directory(jail.options.chroot_base_dir));
    if (jail.options.daemonize) jail.null = TRY(open_file("/dev/null", O_RDWR));
    return {};
}

Result<void> join_network(Jail& jail) {
    if (!jail.options.netns) return {};
    return join_network_namespace(*jail.options.netns);
}

Result<void> prepare_cgroups(Jail& jail) {
    return jail.cgroups.prepare(jail.options, jail.options.parent_cgroup.value_or(jail.executable.name), jail.undo);
}

// <base>/<executable>/<id>. All jails of one executable share <base>/<executable>, so one that fails may remove it,
// empty, in the moment in which another wants to make its own directory in it: then once more.
Result<void> make_jail_directory(Jail& jail) {
    constexpr int kAttempts = 16;
    const uid_t uid = jail.options.uid;
    for (int attempt = 1;; ++attempt) {
        jail.by_name = TRY(make_directory(jail.base, jail.executable.name, 0755, jail.undo));
        TRY(check_owner(jail.by_name, uid));
        auto by_id = make_directory(jail.by_name, jail.options.id, 0755, jail.undo);
        if (!by_id && by_id.error().errno_value == ENOENT && attempt < kAttempts) continue;
        jail.by_id = TRY(std::move(by_id));
        return check_owner(jail.by_id, uid);
    }
}

Result<void> own_files(Jail& jail) {
    return make_files_as(jail.options.uid, jail.options.gid);
}

// What the monitor finds in its root. Directories that were prepared before are handed over to it.
Result<void> make_root(Jail& jail) {
    const Ownership owner = {jail.options.uid, jail.options.gid, 0700};
    const struct {
        Directory& directory;
        const Directory& parent;
        const char* name;
    } tree[] = {{jail.root, jail.by_id, "root"},
                {jail.dev, jail.root, "dev"},
                {jail.dev_net, jail.dev, "net"},
                {jail.run, jail.root, "run"}};
    for (const auto& [directory, parent, name] : tree) {
        directory = TRY(make_directory(parent, name, owner.mode, jail.undo));
        TRY(check_owner(directory, owner.uid));
        TRY(hand_over(directory, owner, jail.undo));
    }
    return {};
}

Result<void> make_devices(Jail& jail) {
    return make_device_nodes(jail.dev, jail.dev_net, find_userfaultfd_minor(), jail.undo);
}

Result<void> copy_program(Jail& jail) {
    jail.copy = TRY(copy_executable(jail.executable, jail.root, jail.undo));
    return {};
}

Result<void> own_files_as_root(Jail&) {
    return make_files_as_root();
}
Result<void> enter_jail_root(Jail& jail) {
    return enter_root(jail.root);
}

Result<void> fork_monitor(Jail& jail) {
    jail.parent_cpu_us = own_cpu_time_us() - jail.start_cpu_us;
    if (!jail.options.daemonize && !jail.options.new_pid_ns) return {};
    jail.spawned = TRY(spawn(jail.options.daemonize, jail.options.new_pid_ns));
    if (!jail.spawned.is_launcher) jail.parent_cpu_us += jail.spawned.family->ancestors_cpu_us;
    return {};
}

Result<void> write_pid(Jail& jail) {
    const pid_t pid = jail.spawned.family ? jail.spawned.family->monitor_pid : getpid();
    return write_pid_file(jail.root, jail.executable.name, pid, jail.undo);
}

Result<void> enter_cgroups(Jail& jail) {
    return jail.cgroups.enter();
}
Result<void> set_limits(Jail& jail) {
    return set_resource_limits(jail.options.limits);
}
Result<void> become_program(Jail& jail);

// The whole of it, in order. First what needs the host in view …
constexpr Step kSteps[] = {
    {"note the time", note_start},
    {"open executable and base directory", open_inputs},
    {"join the network namespace", join_network},
    {"prepare cgroups", prepare_cgroups},
    {"make the jail's directory", make_jail_directory},
    // … then the jail's contents, born with its owner …
    {"make files as the jail's user", own_files},
    {"make the root", make_root},
    {"make device nodes", make_devices},
    {"copy the executable", copy_program},
    {"make files as root again", own_files_as_root},
    // … then the process.
    {"enter the root", enter_jail_root},
    {"fork the monitor", fork_monitor},
    {"write the pid file", write_pid},
    {"enter the cgroups", enter_cgroups},
    {"set resource limits", set_limits},
    {"become the program", become_program},
};

Result<void> replace_streams(Jail& jail) {
    if (!jail.null.valid()) return {};
    return replace_standard_streams(jail.null.get());
}

Result<void> forbid_new_privileges(Jail&) {
    return set_no_new_privileges();
}
Result<void> apply_landlock(Jail& jail) {
    return restrict_with_landlock(jail.root.fd.get(), jail.copy.get());
}
Result<void> empty_bounds(Jail&) {
    return empty_bounding_set();
}
Result<void> become_user(Jail& jail) {
    return become(jail.options.uid, jail.options.gid);
}
Result<void> drop_all_capabilities(Jail&) {
    return drop_capabilities();
}

Result<void> execute(Jail& jail) {
    disarm_deadline();
    report_start(jail.spawned);
    const StartTimes times = {jail.start_us, own_cpu_time_us(), jail.parent_cpu_us};
    return std::unexpected(execute_program(jail.executable.name, jail.options, times));
}

// The last step, in steps of its own: what cannot be undone, and so is done on a thread that ends with it.
constexpr Step kLastSteps[] = {
    {"replace standard streams", replace_streams},
    {"forbid new privileges", forbid_new_privileges},
    {"restrict with Landlock", apply_landlock},
    {"empty the capability bounds", empty_bounds},
    {"become the user", become_user},
    {"drop capabilities", drop_all_capabilities},
    {"execute the program", execute},
};

#ifdef WISP_JAILER_FAULTS
// For the tests: the step of this name does its work and then fails.
Result<void> inject_fault(const Step& step) {
    const char* const wanted = getenv("WISP_JAILER_FAIL_AFTER");
    if (wanted && strcmp(wanted, step.name) == 0) return fail("injected fault");
    return {};
}
#else
Result<void> inject_fault(const Step&) {
    return {};
}
#endif

Result<void> run_steps(Jail& jail, std::span<const Step> steps) {
    for (const Step& step : steps) {
        TRY(check_deadline());
        TRY(step.run(jail));
        TRY_CONTEXT(step.name, inject_fault(step));
        if (jail.spawned.is_launcher) break;
    }
    return {};
}

struct LastCall {
    Jail& jail;
    Result<void> result;
};

int run_last_steps(void* argument) {
    auto& call = *static_cast<LastCall*>(argument);
    call.result = run_steps(call.jail, kLastSteps);
    return 0;
}

Result<void> become_program(Jail& jail) {
    LastCall call = {jail, {}};
    if (!run_on_second_thread(run_last_steps, &call)) return fail_errno("cannot make a thread to run the program from");
    return call.result;
}

void take_back(Jail& jail) {
    jail.cgroups.leave();
    jail.undo.roll_back();
}

Result<void> finish_launcher(Jail& jail) {
    Verdict verdict = await_monitor(jail.spawned);
    if (verdict.outcome == Outcome::kRuns) return {};
    if (verdict.outcome == Outcome::kDied) take_back(jail);
    return std::unexpected(std::move(verdict.error));
}

}  // namespace

Result<void> run_in_jail(const Options& options) {
    TRY(close_inherited_descriptors());
    TRY(arm_deadline(kSetUpDeadline_s));
    Jail jail(options);
    auto result = run_steps(jail, kSteps);
    if (jail.spawned.is_launcher) return finish_launcher(jail);

    take_back(jail);
    if (jail.spawned.report.valid()) {
        report_failure(jail.spawned, result.error());
        _exit(EXIT_FAILURE);
    }
    return result;
}

}  // namespace wisp::jailer
