// SPDX-License-Identifier: Apache-2.0
// Process 1 at work: it starts the command (or a shell on the console), reaps every process that ends, and ends the
// machine when the command has ended or a signal asks for it: SIGUSR2 and SIGUSR1 power off, SIGTERM and SIGINT
// (Ctrl-Alt-Del) reboot. These are the signals that busybox's poweroff, halt and reboot send.

#include <cstring>

#include "init.h"

namespace {

constexpr int kSignalBase = 128;
constexpr long kTermGraceMs = 2000;  // between SIGTERM and SIGKILL
constexpr long kKillGraceMs = 500;

int start_command(const char* const* arguments) {
    const int pid = sys::fork();
    if (pid != 0) return pid;
    sys::setsid();
    become(arguments);
}

int start_shell() {
    static const char* const kShell[] = {"-sh", nullptr};  // a leading dash makes it a login shell
    const int pid = sys::fork();
    if (pid != 0) return pid;
    take_console_as_terminal();
    sys::chdir("/root");
    sys::block_signals(0);
    const int error = sys::execve("/bin/sh", kShell, kEnvironment);
    say("init: cannot run /bin/sh: ", error_text(error));
    sys::exit(kNotFound);
}

int exit_status_of(int wait_status) {
    return WIFSIGNALED(wait_status) ? kSignalBase + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

void say_status(std::string_view what, int status) {
    char digits[] = "000\n";
    for (int i = 2; i >= 0; i--, status /= 10) digits[i] = static_cast<char>('0' + status % 10);
    std::string_view number = digits;
    while (number.size() > 2 && number.front() == '0') number.remove_prefix(1);
    say("init: ", what, " ended with status ", number);
}

struct Main {
    const Command& command;
    int pid;

    explicit Main(const Command& given) : command(given), pid(0) { start(); }

    bool is_command() const { return command.count > 0; }

    void start() {
        if (is_command())
            pid = start_command(command.arguments);
        else if (console_is_terminal())
            pid = start_shell();
    }

    // True if this death ends the machine. A shell that was killed is started again; `exit` is meant.
    bool ends_machine(int wait_status) {
        if (is_command() || WIFEXITED(wait_status)) return true;
        start();
        return false;
    }
};

// Reaps all that have died; true, with the status, if the main process is among them and that ends the machine.
bool reap(Main& main, int& exit_status) {
    int wait_status = 0;
    for (int pid; (pid = sys::wait_any_now(&wait_status)) > 0;) {
        if (pid != main.pid || !main.ends_machine(wait_status)) continue;
        exit_status = exit_status_of(wait_status);
        if (exit_status != 0) say_status(main.is_command() ? main.command.arguments[0] : "shell", exit_status);
        return true;
    }
    return false;
}

// True when no child is left, false when the time has passed.
bool wait_for_children(long grace_ms) {
    constexpr long kStepMs = 5;
    for (long waited_ms = 0;; waited_ms += kStepMs) {
        int wait_status;
        int pid;
        while ((pid = sys::wait_any_now(&wait_status)) > 0) {
        }
        if (pid == -ECHILD) return true;
        if (waited_ms >= grace_ms) return false;
        const timespec step{.tv_sec = 0, .tv_nsec = kStepMs * 1'000'000};
        sys::wait_signal(sys::signal_bit(SIGCHLD), &step);
    }
}

}  // namespace

void start_agent(const char* option) {
    const char* const arguments[] = {"/sbin/wisp-agent", option, nullptr};
    start_command(arguments);
}

Ending supervise(const Command& command) {
    constexpr sys::SignalSet kHandled = sys::signal_bit(SIGCHLD) | sys::signal_bit(SIGUSR1) | sys::signal_bit(SIGUSR2) |
                                        sys::signal_bit(SIGTERM) | sys::signal_bit(SIGINT);
    if (command.agent != nullptr) start_agent(command.agent);
    Main main(command);
    if (main.pid < 0) {
        say("init: cannot start a process: ", error_text(main.pid));
        return {kNotExecutable, End::kPowerOff};
    }
    for (int exit_status = 0;;) {
        switch (sys::wait_signal(kHandled, nullptr)) {
            case SIGCHLD:
                if (reap(main, exit_status)) return {exit_status, End::kPowerOff};
                break;
            case SIGUSR2:
            case SIGUSR1:
                return {0, End::kPowerOff};
            case SIGTERM:
            case SIGINT:
                return {0, End::kReboot};
            default:
                break;  // interrupted
        }
    }
}

void end_all_processes() {
    if (sys::kill(-1, SIGTERM) == -ESRCH) return;
    sys::kill(-1, SIGCONT);  // a stopped process cannot act on SIGTERM
    if (wait_for_children(kTermGraceMs)) return;
    sys::kill(-1, SIGKILL);
    wait_for_children(kKillGraceMs);
}
