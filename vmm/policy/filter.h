// SPDX-License-Identifier: Apache-2.0
//
// The system call filters of the monitor, in two phases: kSetUp for all threads before anything of the operator's is
// read, which threads made later inherit, and then each thread's own right before the guest runs. Filters add up: a
// call has to pass all of them.
//
// A call that is refused raises SIGSYS. Its handler says which call it was and ends the process with Firecracker's exit
// code 148; without a handler, or with SIGSYS blocked, the kernel kills the process. 32-bit and x32 calls kill at once.
#pragma once

#include <linux/filter.h>

#include <cstddef>
#include <span>

#include "base/result.h"

namespace wisp::policy {

enum class Phase {
    kSetUp,    ///< all threads, until the guest runs
    kLoop,     ///< the devices' thread from then on
    kControl,  ///< the control thread from then on
    kVcpu,     ///< a vCPU thread from then on
    kDrive,    ///< a drive's thread from its start
};

/// Sets no_new_privs and installs the filter, for good: kSetUp's on all threads that there are, the others' on the
/// calling one.
Result<void> install(Phase phase);

/// The same with a BPF program of the operator's own; an empty one is no filter. `flags`: of seccomp(2).
Result<void> install(std::span<const sock_filter> program, unsigned flags = 0);

/// Name of an x86-64 system call, "?" if it is not known. Async-signal-safe: for the handler of SIGSYS.
const char* call_name(int number);

}  // namespace wisp::policy
