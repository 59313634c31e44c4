// SPDX-License-Identifier: Apache-2.0
//
// A vCPU thread while its guest runs: the thread nearest to the guest, and the poorest.
#pragma once

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "jailer/policy/rule.h"

namespace wisp::policy {

inline constexpr Rule kVcpuRun[] = {
    allow_ioctl(KVM_RUN, "into the guest"),
    allow("exit", "the end of the thread, when the guest is done"),
    allow("tgkill", "the C library's abort, when an assertion does not hold"),
    allow("rt_sigaction", is(0, 6 /* SIGABRT */), "the same"),
};

}  // namespace wisp::policy
