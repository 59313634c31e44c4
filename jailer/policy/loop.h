// SPDX-License-Identifier: Apache-2.0
//
// The loop thread while a guest runs: devices, console, signals. What it submits to an io_uring no policy sees; each
// ring is restricted to its few operations when it is made (base/ring.h).
#pragma once

#include <asm/ioctls.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <signal.h>

#include "jailer/policy/rule.h"

namespace wisp::policy {

inline constexpr Rule kLoopRun[] = {
    allow("io_uring_enter", "the loop submits and waits here"),
    allow("io_uring_register", is(1, IORING_REGISTER_FILES_UPDATE), "a drive's file is exchanged on its running ring"),
    allow("io_uring_register", is(1, IORING_REGISTER_FILES_UPDATE2), "the same, by newer versions of liburing"),
    allow("epoll_wait", "waiting where the host has no io_uring"),
    allow("epoll_pwait", "the same, by the C library's choice"),
    allow("epoll_ctl", "watches there"),
    allow("read", "eventfds, the signalfd, the console's input"),
    allow("poll", "whether the console's sink takes bytes"),
    allow("preadv", "a drive's reads where its engine is Sync"),
    allow("pwritev", "its writes"),
    allow("pread64", "a short request of the same engine"),
    allow("pwrite64", "the same"),
    allow("fdatasync", "its flushes"),
    allow("fallocate", "its discards and zeroes"),
    allow("readv", "frames from a tap where the host has no io_uring"),
    allow("writev", "frames to it"),
    allow_ioctl(TUNSETOFFLOAD, "what a tap leaves to the driver that has just taken its features"),
    allow("close", "files that are exchanged, connections that end"),
    allow("fcntl", is(1, F_GETLEASE), "is somebody waiting to write the kernel image that the guest maps?"),
    allow("fcntl", is(1, F_SETLEASE), "then the lease is given up, once the guest has its own copy"),
    allow("mmap", is(2, PROT_READ | PROT_WRITE), is(3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED),
          "that copy takes the file mapping's place in guest memory"),
    allow("tgkill", "the kick that makes a vCPU leave the guest; raising a signal against oneself"),
    allow("newfstatat", is(3, 0x1000 /* AT_EMPTY_PATH */), "the C library looks at standard output before it buffers"),
    allow_ioctl(TCGETS, "the same: is it a terminal?"),
    allow("rt_sigaction", is(0, SIGTERM), "ends as the signal would have ended it, so the handler goes first"),
    allow("rt_sigaction", is(0, SIGINT), "the same"),
    allow("rt_sigaction", is(0, SIGABRT), "the C library's abort, when an assertion does not hold"),
};

}  // namespace wisp::policy
