// SPDX-License-Identifier: Apache-2.0
//
// What every thread needs while a guest runs, because the C library or the kernel's signal delivery does.
#pragma once

#include <linux/futex.h>
#include <signal.h>

#include "vmm/policy/rule.h"

namespace wisp::policy {

inline constexpr Rule kCommon[] = {
    allow("write", "eventfds (kicks, posted tasks), the log, the console, standard error's last line"),
    allow("poll", "does the sink of the log, or of the console, take bytes now? does a client of the API wait?"),
    allow("futex", is(1, FUTEX_WAIT_PRIVATE), "a contended lock: messages between the loops, a vCPU's request"),
    allow("futex", is(1, FUTEX_WAKE_PRIVATE), "the other side of it"),
    allow("brk", "the allocator's heap grows and shrinks"),
    allow("restart_syscall",
          "the kernel's own call: a wait goes on after a stop of the process, or a worker of a ring"),
    allow("clock_gettime", "clocks that the kernel does not give without a call: processor time, or all on some hosts"),
    allow("rt_sigprocmask", "the C library blocks signals while it sends one or ends a thread"),
    allow("exit_group", "the end of the process, from the handlers of fatal signals too"),
    // The C library's raise() and abort(), the latter when an assertion does not hold.
    allow("getpid", "whom to send the signal to …"),
    allow("gettid", "…"),
    allow("tgkill", "… and sending it; the loop's kick that makes a vCPU leave the guest"),
    allow("rt_sigaction", is(0, SIGABRT), "abort() takes the handler away"),
};

}  // namespace wisp::policy
