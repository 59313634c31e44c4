// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include <cstring>
#include <set>
#include <span>
#include <string>

#include "vmm/policy/common.h"
#include "vmm/policy/control.h"
#include "vmm/policy/drive.h"
#include "vmm/policy/filter.h"
#include "vmm/policy/loop.h"
#include "vmm/policy/setup.h"
#include "vmm/policy/vcpu.h"

using namespace wisp;
using namespace wisp::policy;

namespace {

constexpr int kLastCall = 511;

// uretprobe and uprobe (Linux 6.11): trampolines of the kernel's own, which no filter sees and which kill any other
// caller.
bool is_kernel_trampoline(int number) {
    return number == 335 || number == 336;
}

volatile sig_atomic_t g_refused = 0;
sigjmp_buf g_after_refusal;

// Tests marked [filters] put a filter on a process: not for sanitizers, whose run time calls what it likes.

// In a child process with the filter on: what `body` returns becomes its exit code.
template <class Body>
int in_filter(Phase phase, Body body) {
    const pid_t child = fork();
    if (child == 0) {
        struct sigaction action = {};
        action.sa_sigaction = [](int, siginfo_t* info, void*) {
            g_refused = info->si_syscall + 1;
            siglongjmp(g_after_refusal, 1);  // to return would be a system call, which the loop does not have
        };
        action.sa_flags = SA_SIGINFO | SA_NODEFER;
        sigaction(SIGSYS, &action, nullptr);
        if (!install(phase)) _exit(200);
        _exit(body());
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

bool refused(long number, unsigned long a = 0, unsigned long b = 0, unsigned long c = 0, unsigned long d = 0) {
    g_refused = 0;
    if (sigsetjmp(g_after_refusal, 0) == 0) syscall(number, a, b, c, d, 0, 0);
    return g_refused == number + 1;
}

std::set<std::string> names(std::initializer_list<std::span<const Rule>> policies) {
    std::set<std::string> all;
    for (const auto policy : policies)
        for (const Rule& rule : policy) all.insert(rule.call);
    return all;
}

std::set<std::string> allowed(Phase phase) {
    if (phase == Phase::kLoop) return names({kCommon, kLoopRun});
    if (phase == Phase::kControl) return names({kCommon, kControlRun});
    if (phase == Phase::kVcpu) return names({kCommon, kVcpuRun});
    if (phase == Phase::kDrive) return names({kCommon, kDriveRun});
    return names({kCommon, kLoopRun, kControlRun, kVcpuRun, kDriveRun, kSetUp});
}

}  // namespace

TEST_CASE("policies: fewer calls than the goals") {
    CHECK(allowed(Phase::kLoop).size() < 45);
    CHECK(allowed(Phase::kVcpu).size() < 25);
    INFO("loop " << allowed(Phase::kLoop).size() << ", vcpu " << allowed(Phase::kVcpu).size());
}

TEST_CASE("policies: each rule has a reason") {
    for (const std::span<const Rule> policy :
         {std::span<const Rule>(kCommon), {kLoopRun}, {kControlRun}, {kVcpuRun}, {kDriveRun}, {kSetUp}})
        for (const Rule& rule : policy) CHECK(strlen(rule.reason) > 0);
}

TEST_CASE("policies: every call that no rule names is refused", "[filters]") {
    for (const Phase phase : {Phase::kSetUp, Phase::kLoop, Phase::kControl, Phase::kVcpu, Phase::kDrive}) {
        const auto names_allowed = allowed(phase);
        const int escaped = in_filter(phase, [&] {
            for (int number = 0; number <= kLastCall; ++number)
                if (!is_kernel_trampoline(number) && !names_allowed.contains(call_name(number)) &&
                    !refused(number, -1, -1, -1, -1))
                    return number % 199 + 1;
            return 0;
        });
        INFO("a call that was let through, plus 1, modulo 199: " << escaped);
        CHECK(escaped == 0);
    }
}

TEST_CASE("policies: arguments are checked", "[filters]") {
    for (const Phase phase : {Phase::kSetUp, Phase::kLoop, Phase::kControl, Phase::kVcpu, Phase::kDrive}) {
        CHECK(in_filter(phase, [] {
                  if (!refused(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS)) return 1;
                  if (!refused(SYS_mprotect, 0, 4096, PROT_EXEC)) return 2;
                  if (!refused(SYS_ioctl, 0, 0x5412 /* TIOCSTI */)) return 3;
                  if (!refused(SYS_ioctl, -1, KVM_RUN | 0x80000000)) return 4;
                  if (refused(SYS_ioctl, -1, KVM_RUN) != false) return 5;
                  return 0;
              }) == (phase == Phase::kSetUp || phase == Phase::kVcpu ? 0 : 5));
    }
    CHECK(in_filter(Phase::kVcpu, [] {
              if (!refused(SYS_ioctl, -1, KVM_CREATE_VM)) return 1;
              if (!refused(SYS_read, -1, 0, 0)) return 2;
              if (refused(SYS_write, -1, 0, 0)) return 3;
              return 0;
          }) == 0);
}

TEST_CASE("policies: the loop opens files that are there, as they are", "[filters]") {
    CHECK(in_filter(Phase::kLoop, [] {
              constexpr unsigned long kNowhere = -1;
              if (refused(SYS_openat, kNowhere, 0, O_RDWR | O_CLOEXEC | O_DIRECT)) return 1;
              int step = 2;
              for (const unsigned long flag : {O_CREAT, O_TRUNC, O_APPEND, O_PATH, O_TMPFILE}) {
                  if (!refused(SYS_openat, kNowhere, 0, O_RDWR | flag)) return step;
                  ++step;
              }
              if (refused(SYS_socket, AF_UNIX, 0, 99) || !refused(SYS_socket, AF_INET, SOCK_STREAM, 0)) return 20;
              if (!refused(SYS_bind, -1, 0, 0) || !refused(SYS_listen, -1, 0)) return 21;
              if (!refused(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)) return 22;
              if (!refused(SYS_fcntl, 0, F_SETFL, O_ASYNC) || !refused(SYS_fcntl, 0, F_SETOWN, 1)) return 23;
              return 0;
          }) == 0);
}

TEST_CASE("policies: nothing about io_uring can be changed once the guest runs", "[filters]") {
    CHECK(in_filter(Phase::kLoop, [] {
              if (!refused(SYS_io_uring_setup, 8, 0)) return 1;
              for (unsigned long operation = 0; operation < 64; ++operation)
                  if (refused(SYS_io_uring_register, -1, operation, 0, 0) ==
                      (operation == IORING_REGISTER_FILES_UPDATE))
                      return static_cast<int>(operation) + 2;
              return 0;
          }) == 0);
    CHECK(in_filter(Phase::kVcpu, [] {
              return refused(SYS_io_uring_enter, -1, 0, 0) && refused(SYS_io_uring_register, -1, 0, 0) ? 0 : 1;
          }) == 0);
}

TEST_CASE("policies: phases add up", "[filters]") {
    CHECK(in_filter(Phase::kSetUp, [] {
              if (refused(SYS_openat, -1, 0, 0)) return 1;
              if (!install(Phase::kLoop)) return 2;
              if (!refused(SYS_eventfd2, 0, 0)) return 3;
              if (!refused(SYS_seccomp, 1, 0, 0)) return 4;
              return 0;
          }) == 0);
}

TEST_CASE("policies: calls of another architecture kill", "[filters]") {
    CHECK(in_filter(Phase::kVcpu, [] {
              syscall(0x40000000 | SYS_write, -1, 0, 0);  // x32
              return 1;
          }) == -SIGSYS);
}

TEST_CASE("policies: names of calls") {
    CHECK(std::string(call_name(SYS_execve)) == "execve");
    CHECK(std::string(call_name(-1)) == "?");
    CHECK(std::string(call_name(100000)) == "?");
}
