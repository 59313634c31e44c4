// SPDX-License-Identifier: Apache-2.0
#include "jailer/spawn.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "jailer/deadline.h"

namespace wisp::jailer {

namespace {

// What the monitor puts into the pipe: kStart when its program is next, kCleaned in front of why there is none.
constexpr char kStart = 1;
constexpr char kCleaned = 2;

// Errors are one line.
constexpr size_t kMaxReport = 8 << 10;

// fork() has no flags, and clone() of the C library wants a stack. The kernel stores the child's pid, as this process
// sees it, before the child runs: so the monitor can read its own pid in the host's pid namespace.
long fork_with_flags(unsigned long flags, pid_t* child_pid) {
    return syscall(SYS_clone, flags | CLONE_PARENT_SETTID, nullptr, child_pid, nullptr, nullptr);
}

// In the session leader: makes the monitor and ends. What goes wrong is for the launcher to tell.
[[noreturn]] void end_session_leader(long child, int report_fd) {
    if (child < 0) {
        const std::string text = "cannot fork the monitor: " + errno_text(errno);
        [[maybe_unused]] const ssize_t written = write(report_fd, text.data(), text.size());
    }
    _exit(child < 0);
}

}  // namespace

uint64_t own_cpu_time_us() {
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1'000;
}

Result<Spawned> spawn(bool daemonize, bool new_pid_ns) {
    void* const page = mmap(nullptr, sizeof(Family), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return fail_errno("cannot map a page to share with the monitor");
    auto* const family = new (page) Family;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return fail_errno("cannot make a pipe to the monitor");
    OwnedFd from_monitor(ends[0]), to_launcher(ends[1]);

    const unsigned long namespace_flag = new_pid_ns ? CLONE_NEWPID : 0;
    pid_t ignored;
    long child = daemonize ? fork_with_flags(SIGCHLD, &ignored) : fork_with_flags(namespace_flag, &family->monitor_pid);
    if (child < 0) return fail_errno("cannot fork the monitor");
    if (child > 0) return Spawned{true, family, std::move(from_monitor)};

    if (daemonize) {
        setsid();
        family->ancestors_cpu_us = own_cpu_time_us();
        child = fork_with_flags(namespace_flag, &family->monitor_pid);
        if (child != 0) end_session_leader(child, to_launcher.get());
    }
    rearm_deadline(kSetUpDeadline_s);
    return Spawned{false, family, std::move(to_launcher)};
}

void report_start(const Spawned& monitor) {
    if (!monitor.report.valid()) return;
    [[maybe_unused]] const ssize_t written = write(monitor.report.get(), &kStart, 1);
}

void report_failure(const Spawned& monitor, const Error& error) {
    // The launcher may be gone. Then no process reads this.
    signal(SIGPIPE, SIG_IGN);
    const std::string text = kCleaned + error.message;
    [[maybe_unused]] const ssize_t written = write(monitor.report.get(), text.data(), text.size());
}

Verdict await_monitor(const Spawned& launcher) {
    std::string text;
    char block[512];
    for (;;) {
        const ssize_t got = read(launcher.report.get(), block, sizeof block);
        if (got == 0) break;
        if (got > 0 && text.size() < kMaxReport) text.append(block, static_cast<size_t>(got));
        if (got > 0 || errno != EINTR) continue;
        if (auto in_time = check_deadline(); !in_time) {
            if (const pid_t monitor = launcher.family->monitor_pid; monitor > 0) kill(monitor, SIGKILL);
            return {Outcome::kDied, std::move(in_time).error()};
        }
    }
    const bool started = text.starts_with(kStart);
    text.erase(0, started);
    if (text.starts_with(kCleaned)) return {Outcome::kFailedAndCleaned, {text.substr(1), 0}};
    if (!text.empty()) return {Outcome::kDied, {text, 0}};
    if (started) return {Outcome::kRuns, {}};
    return {Outcome::kDied, {"the process that sets up the jail was killed", 0}};
}

}  // namespace wisp::jailer
