// SPDX-License-Identifier: Apache-2.0
#include "jailer/second_thread.h"

#include <sched.h>

namespace wisp::jailer {

bool run_on_second_thread(int (*function)(void*), void* argument) {
    // Not pthread_create: with CLONE_VFORK one system call makes the thread and waits for its end, and since this
    // thread stands still, the other can use its thread-local storage (errno, the allocator's cache) as if it were this
    // one.
    constexpr int kFlags =
        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_VFORK;
    constexpr unsigned long kStackSize = 64 << 10;
    alignas(64) static char stack[kStackSize];
    return clone(function, stack + kStackSize, kFlags, argument) > 0;
}

}  // namespace wisp::jailer
