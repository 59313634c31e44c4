// SPDX-License-Identifier: Apache-2.0
//
// call-recorder [--deny CALL]... OUTPUT -- PROGRAM ARGUMENT...
// call-recorder --rules
//
// Runs wisp and writes down, at its end, which rules of the system call policies allowed the calls that it made: a line
// "THREADS <tab> RULE" for each rule that was needed, where THREADS is setup, loop, control, vcpu or drive, and a line
// "THREADS <tab> -CALL" for a call that none of their rules allows. A thread's calls belong to the last filter that it
// has installed.
// --deny makes a call fail with ENOSYS, as on a host that does not have it.
//
// The tracer is a child of the program, so that the program has the process number that the caller knows.
#include <elf.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "vmm/policy/common.h"
#include "vmm/policy/control.h"
#include "vmm/policy/drive.h"
#include "vmm/policy/filter.h"
#include "vmm/policy/loop.h"
#include "vmm/policy/setup.h"
#include "vmm/policy/vcpu.h"

namespace {

using namespace wisp::policy;

enum class Threads { kUnfiltered, kSetup, kLoop, kControl, kVcpu, kDrive };
constexpr const char* kNames[] = {"none", "setup", "loop", "control", "vcpu", "drive"};

[[noreturn]] void give_up(const char* what) {
    fprintf(stderr, "call-recorder: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

struct Policy {
    const char* name;
    std::span<const Rule> rules;
};
constexpr Policy kPolicies[] = {{"common", kCommon}, {"loop", kLoopRun}, {"control", kControlRun},
                                {"vcpu", kVcpuRun},  {"setup", kSetUp},  {"drive", kDriveRun}};

std::string name_of(const Policy& policy, size_t rule) {
    return std::string(policy.name) + "." + std::to_string(rule);
}

// For a comparison: every rule, "RULE <tab> CALL <tab> REASON".
int list_rules() {
    for (const Policy& policy : kPolicies)
        for (size_t i = 0; i < policy.rules.size(); ++i)
            printf("%s\t%s\t%s\n", name_of(policy, i).c_str(), policy.rules[i].call, policy.rules[i].reason);
    return 0;
}

std::vector<Policy> policies_of(Threads threads) {
    switch (threads) {
        case Threads::kSetup:
            return {std::begin(kPolicies), std::end(kPolicies)};
        case Threads::kLoop:
            return {kPolicies[0], kPolicies[1]};
        case Threads::kControl:
            return {kPolicies[0], kPolicies[2]};
        case Threads::kVcpu:
            return {kPolicies[0], kPolicies[3]};
        case Threads::kDrive:
            return {kPolicies[0], kPolicies[5]};
        default:
            return {};
    }
}

bool fits(const Rule& rule, const char* call, const uint64_t* arguments) {
    if (strcmp(rule.call, call) != 0) return false;
    for (unsigned i = 0; i < rule.check_count; ++i)
        if ((arguments[rule.checks[i].argument] & rule.checks[i].mask) != rule.checks[i].value) return false;
    return true;
}

class Recorder {
public:
    explicit Recorder(pid_t program) : program_(program) {}

    void on_call(pid_t thread, const __ptrace_syscall_info& info) {
        Threads& threads = threads_.try_emplace(thread, inherited()).first->second;
        if (info.entry.nr == SYS_execve) threads = Threads::kUnfiltered;  // what came before were our own
        const char* const call = call_name(static_cast<int>(info.entry.nr));
        bool allowed = threads == Threads::kUnfiltered;
        const std::string head = std::string(kNames[static_cast<int>(threads)]) + "\t";
        for (const Policy& policy : policies_of(threads))
            for (size_t i = 0; i < policy.rules.size(); ++i)
                if (fits(policy.rules[i], call, info.entry.args)) {
                    lines_.insert(head + name_of(policy, i));
                    allowed = true;
                }
        if (!allowed) lines_.insert(head + "-" + call);
        if (info.entry.nr != SYS_seccomp) return;
        if (thread != program_)
            threads = is_named(thread, "fc_api")     ? Threads::kControl
                      : is_named(thread, "fc_block") ? Threads::kDrive
                                                     : Threads::kVcpu;
        else
            threads = threads == Threads::kUnfiltered ? Threads::kSetup : Threads::kLoop;
    }

    void write(const char* path) const {
        FILE* const out = fopen(path, "w");
        if (!out) give_up(path);
        for (const std::string& line : lines_) fprintf(out, "%s\n", line.c_str());
        fclose(out);
    }

private:
    bool is_named(pid_t thread, const char* wanted) const {
        char path[64], name[16] = {};
        snprintf(path, sizeof path, "/proc/%d/task/%d/comm", program_, thread);
        FILE* const file = fopen(path, "r");
        if (!file || !fgets(name, sizeof name, file)) give_up(path);
        fclose(file);
        return strncmp(name, wanted, strlen(wanted)) == 0;
    }
    Threads inherited() const { return threads_.empty() ? Threads::kUnfiltered : Threads::kSetup; }

    const pid_t program_;
    std::map<pid_t, Threads> threads_;
    std::set<std::string> lines_;
};

// What a stopped thread is to go on with: a signal, or none; -1: not at all yet.
int handle_stop(Recorder& recorder, pid_t thread, int status) {
    const int signal = WSTOPSIG(status);
    if (signal == (SIGTRAP | 0x80)) {
        __ptrace_syscall_info info{};
        if (ptrace(static_cast<__ptrace_request>(PTRACE_GET_SYSCALL_INFO), thread, sizeof info, &info) > 0 &&
            info.op == PTRACE_SYSCALL_INFO_ENTRY)
            recorder.on_call(thread, info);
        return 0;
    }
    if (status >> 16 == PTRACE_EVENT_STOP && signal != SIGTRAP) {
        ptrace(PTRACE_LISTEN, thread, 0, 0);  // stopped by SIGSTOP and the like: stays so
        return -1;
    }
    return status >> 16 ? 0 : signal;
}

int record(pid_t program, int ready, const char* output) {
    const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE;
    if (ptrace(PTRACE_SEIZE, program, 0, options) < 0) give_up("PTRACE_SEIZE");
    if (ptrace(PTRACE_INTERRUPT, program, 0, 0) < 0) give_up("PTRACE_INTERRUPT");
    Recorder recorder(program);
    bool first = true;
    int status;
    for (pid_t thread; (thread = waitpid(-1, &status, __WALL)) > 0;) {
        if (!WIFSTOPPED(status)) continue;
        const int signal = handle_stop(recorder, thread, status);
        if (signal >= 0) ptrace(PTRACE_SYSCALL, thread, 0, signal);
        if (first && write(ready, "", 1) < 0) give_up("write");
        first = false;
    }
    recorder.write(output);
    return 0;
}

int number_of(const char* call) {
    for (int number = 0; number < 512; ++number)
        if (strcmp(call_name(number), call) == 0) return number;
    errno = ENOSYS;
    give_up(call);
}

void deny(int number) {
    sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    if (!wisp::policy::install(steps)) give_up("seccomp");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 2 && strcmp(argv[1], "--rules") == 0) return list_rules();
    int at = 1;
    std::vector<int> denied;
    for (; at + 1 < argc && strcmp(argv[at], "--deny") == 0; at += 2) denied.push_back(number_of(argv[at + 1]));
    if (at + 2 >= argc || strcmp(argv[at + 1], "--") != 0) {
        fprintf(stderr, "usage: call-recorder [--deny CALL]... OUTPUT -- PROGRAM ARGUMENT...\n");
        return 2;
    }
    int ready[2];
    if (pipe(ready) < 0) give_up("pipe");
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    const pid_t program = getpid();
    const pid_t tracer = fork();
    if (tracer == 0) {
        close(ready[0]);
        setsid();  // what a terminal sends to the program's group is not for us
        return record(program, ready[1], argv[at]);
    }
    close(ready[1]);
    char byte;
    if (read(ready[0], &byte, 1) != 1) give_up("the tracer did not start");
    close(ready[0]);
    for (const int number : denied) deny(number);
    execv(argv[at + 2], argv + at + 2);
    give_up(argv[at + 2]);
}
