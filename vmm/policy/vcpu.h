// SPDX-License-Identifier: Apache-2.0
//
// A vCPU thread while its guest runs: the thread nearest to the guest, and the poorest.
#pragma once

#include <linux/futex.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "vmm/policy/rule.h"

namespace wisp::policy {

inline constexpr Rule kVcpuRun[] = {
    allow_ioctl(KVM_RUN, "into the guest"),
    allow_ioctl(KVM_KVMCLOCK_CTRL, "a pause: the guest's watchdogs forgive it"),
    allow_ioctl(KVM_GET_REGS, "where the guest was when it ended badly, for the log"),
    allow_ioctl(KVM_CREATE_PIT2, "the i8254 is made when a guest first asks for it"),
    allow_ioctl(KVM_GET_PIT2, "and given the state that it would have had …"),
    allow_ioctl(KVM_SET_PIT2, "… had it been there before"),
    allow("futex", is(1, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME),
          "a pause, a reset that waits for its device, by the C library's condition variables"),
    allow("rt_sigreturn", "back from the kick"),
    allow("madvise", is(2, MADV_DONTNEED), "the end of the thread: its stack goes back to the host"),
    allow("exit", "the end of the thread, when the guest is done"),
};

}  // namespace wisp::policy
