// SPDX-License-Identifier: Apache-2.0
//
// A drive's thread, on hosts that forbid io_uring: it makes the calls on the drive's file that may sleep, and no other.
// See virtio/block/engine_thread.cc.
#pragma once

#include <linux/fs.h>
#include <linux/futex.h>
#include <sys/mman.h>

#include "vmm/policy/rule.h"

namespace wisp::policy {

inline constexpr Rule kDriveRun[] = {
    allow("preadv", "reads"),
    allow("pwritev", "writes"),
    allow("fdatasync", "flushes"),
    allow("fallocate", "discards and zeroes"),
    allow_ioctl(BLKDISCARD, "discards on a block device that cannot promise zeroes"),
    allow("futex", is(1, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME),
          "waiting for work, by the C library's condition variables"),
    allow("madvise", is(2, MADV_DONTNEED), "the end of the thread: its stack goes back to the host"),
    allow("exit", "the end of the thread"),
};

}  // namespace wisp::policy
