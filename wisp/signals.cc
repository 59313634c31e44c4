// SPDX-License-Identifier: Apache-2.0
#include "wisp/signals.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "base/exit_code.h"
#include "base/log.h"
#include "vmm/policy/filter.h"

namespace wisp {

namespace {

struct FatalSignal {
    int number;
    ExitCode code;
    const char* text;
};

constexpr FatalSignal kFatalSignals[] = {
    {SIGBUS, ExitCode::kSigBus,
     "SIGBUS: memory has lost its backing (a mapped file was cut short, or huge pages ran out)"},
    {SIGSEGV, ExitCode::kSigSegv, "SIGSEGV: invalid memory access"},
    {SIGILL, ExitCode::kSigIll, "SIGILL: illegal instruction"},
    {SIGSYS, ExitCode::kBadSyscall, "SIGSYS: a system call that the policy refuses"},
    {SIGXFSZ, ExitCode::kSigXfsz, "SIGXFSZ: a file reached the size limit of the process"},
    {SIGXCPU, ExitCode::kSigXcpu, "SIGXCPU: the CPU time limit of the process is used up"},
    {SIGHUP, ExitCode::kSigHup, "SIGHUP: the terminal went away"},
};

void say(int fd, const char* line, size_t size) {
    if (write(fd, line, size) < 0) return;  // there is no other place for the line
}

// Async-signal-safe: no allocation, no lock, not the log (whose lock the interrupted code may hold).
void on_fatal_signal(int number, siginfo_t* info, void*) {
    for (const FatalSignal& fatal : kFatalSignals) {
        if (fatal.number != number) continue;
        char line[256];
        int length = snprintf(line, sizeof line, "wisp: stopped by %s", fatal.text);
        if (number == SIGSYS)
            length += snprintf(line + length, sizeof line - length, ": %s (number %d)",
                               policy::call_name(info->si_syscall), info->si_syscall);
        line[length++] = '\n';
        say(STDERR_FILENO, line, static_cast<size_t>(length));
        if (log::config().sink == log::Config::Sink::kFile) say(log::config().fd, line, static_cast<size_t>(length));
        _exit(static_cast<int>(fatal.code));
    }
}

}  // namespace

void install_fatal_signal_handlers() {
    for (const FatalSignal& fatal : kFatalSignals) {
        struct sigaction action{};
        action.sa_sigaction = on_fatal_signal;
        action.sa_flags = SA_SIGINFO;
        sigaction(fatal.number, &action, nullptr);
    }
    signal(SIGPIPE, SIG_IGN);
}

Result<std::unique_ptr<SignalWatch>> SignalWatch::create(Loop& loop, std::function<void(int)> on_signal) {
    std::unique_ptr<SignalWatch> watch(new SignalWatch(std::move(on_signal)));
    sigset_t set;
    sigemptyset(&set);
    for (const int number : {SIGINT, SIGTERM}) sigaddset(&set, number);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    watch->fd_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!watch->fd_.valid()) return fail_errno("cannot create a signalfd");
    watch->watch_ = TRY(loop.watch(watch->fd_.get(), EPOLLIN, watch->watcher_));
    return watch;
}

void SignalWatch::on_ready(uint32_t) {
    signalfd_siginfo info;
    while (read(fd_.get(), &info, sizeof info) == sizeof info) on_signal_(static_cast<int>(info.ssi_signo));
}

void die_by_signal(int signal_number) {
    signal(signal_number, SIG_DFL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal_number);
    raise(signal_number);
    sigprocmask(SIG_UNBLOCK, &set, nullptr);
    _exit(128 + signal_number);
}

}  // namespace wisp
