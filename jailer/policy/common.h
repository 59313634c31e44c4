// SPDX-License-Identifier: Apache-2.0
//
// What every thread needs while a guest runs, because the C library or the kernel's signal delivery does.
#pragma once

#include <linux/futex.h>

#include "jailer/policy/rule.h"

namespace wisp::policy {

inline constexpr Rule kCommon[] = {
    allow("brk", "the allocator's heap grows and shrinks"),
    allow("mmap", without(2, PROT_EXEC), without(3, MAP_FIXED),
          "the allocator's large blocks; never code, never over what is there"),
    allow("munmap", "the allocator gives large blocks back"),
    allow("mprotect", without(2, PROT_EXEC), "the allocator makes more of a reserve usable; never code"),
    allow("madvise", is(2, MADV_DONTNEED), "memory of a thread's stack or of the heap goes back to the host"),
    allow("futex", is(1, FUTEX_WAIT_PRIVATE), "a contended lock: log, tasks posted to the loop, a vCPU's request"),
    allow("futex", is(1, FUTEX_WAKE_PRIVATE), "the other side of it"),
    allow("futex", is(1, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME),
          "the C library's condition variables and joins"),
    allow("futex", is(1, FUTEX_WAIT_BITSET_PRIVATE), "the same with the monotonic clock"),
    allow("futex", is(1, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME),
          "joining a thread, whose end the kernel itself announces"),
    allow("write", "eventfds (kicks, posted tasks), the log, the console, standard error's last line"),
    allow("clock_gettime", "the clocks that the kernel does not give without a call, such as processor time"),
    allow("rt_sigreturn", "returning from the vCPU's kick, and from whatever signal comes"),
    allow("restart_syscall", "the kernel resumes an interrupted wait with it, after a stop and continue for one"),
    allow("rt_sigprocmask", "the C library blocks signals while it sends one or ends a thread"),
    allow("getpid", "the C library's raise and abort"),
    allow("gettid", "the same, and a kick's target"),
    allow("exit_group", "the end of the process, from the handlers of fatal signals too"),
};

}  // namespace wisp::policy
