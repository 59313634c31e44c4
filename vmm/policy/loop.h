// SPDX-License-Identifier: Apache-2.0
//
// The devices' thread while a guest runs: devices and console. What it submits to an io_uring no policy sees;
// each ring is restricted to its few operations when it is made (base/ring.h).
#pragma once

#include <asm/ioctls.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <sys/socket.h>

#include "vmm/policy/common.h"
#include "vmm/policy/rule.h"

namespace wisp::policy {

inline constexpr Rule kLoopRun[] = {
    allow("io_uring_enter", "the loop submits and waits here"),
    allow("io_uring_register", is(1, IORING_REGISTER_FILES_UPDATE), "a drive's file is exchanged on its running ring"),
    allow("epoll_pwait2", "which vsock connections have something to say; waiting where the host has no io_uring"),
    allow("epoll_ctl", "what is watched there"),
    allow("read", "eventfds, the console's input"),
    allow("close", "files that are exchanged, connections that end"),
    // Memory.
    allow("mmap", without(2, PROT_EXEC), without(3, MAP_FIXED),
          "the allocator's large blocks; never code, never over what is there"),
    allow("munmap", "the allocator gives large blocks back"),
    allow("mremap", is(3, MREMAP_MAYMOVE), "the allocator makes such a block larger"),
    // Drives.
    allow("openat", without(2, ~uint64_t{O_ACCMODE | O_CLOEXEC | O_DIRECT | O_NONBLOCK | O_NOCTTY}),
          "PATCH of a drive opens its new file; nothing is created or cut short"),
    allow("fcntl", is(1, F_SETFL), without(2, ~uint64_t{O_DIRECT}),
          "it was opened without waiting for a FIFO's other end"),
    allow("newfstatat", "what that file is, and how large"),
    allow("statx", "how O_DIRECT wants its reads and writes aligned"),
    allow_ioctl(BLKGETSIZE64, "if it is a block device: its size …"),
    allow_ioctl(BLKSSZGET, "… and its sectors, on hosts whose statx does not tell"),
    allow_ioctl(KVM_IRQ_LINE, "the keyboard's interrupt"),
    // virtio-net
    allow("readv", "frames from a tap, where the host has no io_uring"),
    allow("writev", "frames to it"),
    allow_ioctl(TUNSETOFFLOAD, "what a tap leaves to the driver that has just taken its features"),
    // virtio-vsock
    allow("accept4", "a host program connects to the guest"),
    allow("shutdown", "a direction of a connection has no more to say"),
    allow("socket", is(0, AF_UNIX), "the guest connects to the host"),
    allow("connect", "to the program that listens at the path of its port"),
    allow("recvmsg", "bytes of a connection to the guest"),
    allow("sendmsg", "and from it"),
    // The end.
    allow_ioctl(TCGETS, "the terminal gets back the settings it had …"),
    allow_ioctl(TCSETS, "…"),
};

}  // namespace wisp::policy
