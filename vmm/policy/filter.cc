// SPDX-License-Identifier: Apache-2.0
#include "vmm/policy/filter.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <iterator>

namespace wisp::policy {

namespace {

#include "policy_filters.inc"

std::span<const sock_filter> filter_of(Phase phase) {
    switch (phase) {
        case Phase::kSetUp:
            return kSetUpFilter;
        case Phase::kLoop:
            return kLoopFilter;
        case Phase::kControl:
            return kControlFilter;
        case Phase::kVcpu:
            return kVcpuFilter;
        case Phase::kDrive:
            return kDriveFilter;
    }
    return {};
}

}  // namespace

Result<void> install(Phase phase) {
    return install(filter_of(phase), phase == Phase::kSetUp ? SECCOMP_FILTER_FLAG_TSYNC : 0);
}

Result<void> install(std::span<const sock_filter> filter, unsigned flags) {
    if (filter.empty()) return {};
    const sock_fprog program = {static_cast<unsigned short>(filter.size()), const_cast<sock_filter*>(filter.data())};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return fail_errno("cannot set no_new_privs");
    const long refused = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    if (refused > 0) return fail("cannot install the system call filter: thread %ld has another one", refused);
    if (refused < 0)
        return fail_errno("cannot install the system call filter (--no-seccomp runs without, for debugging)");
    return {};
}

const char* call_name(int number) {
    if (number < 0 || static_cast<size_t>(number) >= std::size(kCallNames) || !kCallNames[number][0]) return "?";
    return kCallNames[number];
}

}  // namespace wisp::policy
