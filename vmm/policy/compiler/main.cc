// SPDX-License-Identifier: Apache-2.0
//
// Compiles the policies to BPF when Wisp is built: writes C++ that vmm/policy/filter.cc includes. So neither
// libseccomp nor the time it takes is part of a monitor's start.
#include <linux/filter.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "vmm/policy/common.h"
#include "vmm/policy/control.h"
#include "vmm/policy/drive.h"
#include "vmm/policy/loop.h"
#include "vmm/policy/setup.h"
#include "vmm/policy/vcpu.h"

namespace {

using wisp::policy::Rule;

// One past the highest call number of x86-64 that the library may know.
constexpr int kMaxCalls = 512;
constexpr size_t kMaxName = 32;

[[noreturn]] void give_up(const char* what, int error) {
    fprintf(stderr, "policy compiler: %s: %s\n", what, strerror(-error));
    exit(EXIT_FAILURE);
}

void add(scmp_filter_ctx context, const Rule& rule) {
    const int number = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, rule.call);
    if (number < 0) give_up(rule.call, -ENOSYS);
    scmp_arg_cmp comparisons[wisp::policy::kMaxChecks];
    for (unsigned i = 0; i < rule.check_count; ++i) {
        const auto& check = rule.checks[i];
        comparisons[i] = {check.argument, SCMP_CMP_MASKED_EQ, check.mask, check.value};
    }
    // One rule that asks nothing makes others of the same call idle, which the library reports as EEXIST.
    const int result = seccomp_rule_add_array(context, SCMP_ACT_ALLOW, number, rule.check_count, comparisons);
    if (result < 0 && result != -EEXIST) give_up(rule.call, result);
}

std::vector<sock_filter> compile(std::initializer_list<std::span<const Rule>> policies) {
    // Refused: SIGSYS, whose handler says which call it was and ends the process.
    scmp_filter_ctx context = seccomp_init(SCMP_ACT_TRAP);
    if (!context) give_up("seccomp_init", -ENOMEM);
    // 32-bit and x32 calls have other numbers: no handler for those.
    seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    // A search tree instead of a list: the calls made most are not paid for by those before them.
    seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (const auto policy : policies)
        for (const Rule& rule : policy) add(context, rule);

    const int file = memfd_create("bpf", MFD_CLOEXEC);
    if (const int result = seccomp_export_bpf(context, file); result < 0) give_up("seccomp_export_bpf", result);
    std::vector<sock_filter> program(static_cast<size_t>(lseek(file, 0, SEEK_END)) / sizeof(sock_filter));
    if (pread(file, program.data(), program.size() * sizeof(sock_filter), 0) < 0) give_up("pread", -errno);
    seccomp_release(context);
    close(file);
    return program;
}

void print(const char* name, const std::vector<sock_filter>& program) {
    printf("constexpr sock_filter %s[] = {\n", name);
    for (const sock_filter& step : program) printf("    {0x%x, %u, %u, 0x%x},\n", step.code, step.jt, step.jf, step.k);
    printf("};\n\n");
}

// An array of arrays and not of pointers, which the monitor would have to relocate at every start.
void print_names() {
    printf("constexpr char kCallNames[][%zu] = {\n", kMaxName);
    for (int number = 0; number < kMaxCalls; ++number) {
        char* const name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, number);
        if (name && strlen(name) >= kMaxName) give_up(name, -ENAMETOOLONG);
        printf("    \"%s\",\n", name ? name : "");
        free(name);
    }
    printf("};\n");
}

}  // namespace

int main() {
    using namespace wisp::policy;
    printf("// Made by vmm/policy/compiler from the policies beside it. Not to be edited.\n\n");
    print("kSetUpFilter", compile({kCommon, kLoopRun, kControlRun, kVcpuRun, kDriveRun, kSetUp}));
    print("kLoopFilter", compile({kCommon, kLoopRun}));
    print("kControlFilter", compile({kCommon, kControlRun}));
    print("kVcpuFilter", compile({kCommon, kVcpuRun}));
    print("kDriveFilter", compile({kCommon, kDriveRun}));
    print_names();
    return 0;
}
