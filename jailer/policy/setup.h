// SPDX-License-Identifier: Apache-2.0
//
// All threads from the end of the command line to the guest's first instruction: what builds a VM, over and above what
// runs it. It is installed first and stays below the others: a later filter can only take away.
#pragma once

#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include "jailer/policy/rule.h"

namespace wisp::policy {

inline constexpr Rule kSetUp[] = {
    // Files that the configuration names, and the rings and descriptors of the loop.
    allow("openat", "the machine file, kernel, initrd, drives, /dev/kvm; what may be opened the jail decides"),
    allow("fstat", "their types and sizes"),
    allow("newfstatat", "the same, by the C library"),
    allow("statx", "the same"),
    allow("lseek", "the same, of a block device"),
    allow("fcntl", "leases on the kernel image, locks on drives, flags"),
    allow("ftruncate", "sizes of memory files"),
    allow("memfd_create", "guest memory that is shared"),
    allow("fallocate", "its backing"),
    allow("madvise", "guest memory stays out of core dumps, and gets huge pages where asked for"),
    allow("mmap", without(2, PROT_EXEC), "guest memory, rings, a vCPU's run page, stacks; never code"),
    allow("eventfd2", "queue kicks and interrupts"),
    allow("signalfd4", "signals that the loop serves"),
    allow("timerfd_create", "rate limiters"),
    allow("epoll_create1", "waiting where the host has no io_uring"),
    allow("io_uring_setup", "the loop's ring and each drive's"),
    allow("io_uring_register", "their restrictions and files, before they are enabled"),
    allow("rt_sigaction", "handlers of fatal signals and of the kick"),
    allow("prlimit64", "room for descriptors"),
    allow("dup", "descriptors that two owners need"),
    allow("sysinfo", "the C library's way to the size of the host's memory"),
    allow("getrandom", "seeds of hash tables and the allocator"),
    // The VM.
    allow_ioctl(KVM_GET_API_VERSION, "is it the KVM we know?"),
    allow_ioctl(KVM_CHECK_EXTENSION, "what it can"),
    allow_ioctl(KVM_GET_VCPU_MMAP_SIZE, "size of the run page"),
    allow_ioctl(KVM_GET_SUPPORTED_CPUID, "what the guest's CPU can be"),
    allow_ioctl(KVM_GET_MSR_INDEX_LIST, "which MSRs a snapshot has"),
    allow_ioctl(KVM_CREATE_VM, "the VM"),
    allow_ioctl(KVM_SET_TSS_ADDR, "three pages that Intel CPUs need"),
    allow_ioctl(KVM_SET_IDENTITY_MAP_ADDR, "one more of them"),
    allow_ioctl(KVM_CREATE_IRQCHIP, "interrupt controllers"),
    allow_ioctl(KVM_CREATE_PIT2, "the timer that older kernels calibrate by"),
    allow_ioctl(KVM_SET_USER_MEMORY_REGION, "guest memory"),
    allow_ioctl(KVM_CREATE_VCPU, "vCPUs"),
    allow_ioctl(KVM_SET_CPUID2, "their CPUID"),
    allow_ioctl(KVM_GET_SREGS, "their registers at the kernel's entry …"),
    allow_ioctl(KVM_SET_SREGS, "…"),
    allow_ioctl(KVM_SET_REGS, "…"),
    allow_ioctl(KVM_SET_FPU, "…"),
    allow_ioctl(KVM_GET_LAPIC, "…"),
    allow_ioctl(KVM_SET_LAPIC, "…"),
    allow_ioctl(KVM_GET_MSRS, "…"),
    allow_ioctl(KVM_SET_MSRS, "… and their MSRs"),
    allow_ioctl(KVM_IOEVENTFD, "queue kicks without a way through this process"),
    allow_ioctl(KVM_IRQFD, "interrupts without one"),
    // Taps.
    allow_ioctl(TUNSETIFF, "which tap it is"),
    allow_ioctl(TUNSETVNETHDRSZ, "the size of its header"),
    allow("clock_nanosleep", "a tap whose last user is just ending"),
    // Threads.
    allow("clone3", "a thread for each vCPU"),
    allow("clone",
          is(0, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
                    CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID),
          "the same where the kernel has no clone3; threads only"),
    allow("set_robust_list", "the C library, in each new thread"),
    allow("rseq", "the same"),
    allow("sched_getaffinity", "where a new vCPU may run"),
    allow("sched_setaffinity", "that it does not start behind its creator"),
    allow("prctl", is(0, PR_SET_NAME), "names of threads, which operators look for"),
    allow("prctl", is(0, PR_SET_NO_NEW_PRIVS), "before a filter"),
    allow("seccomp", is(0, SECCOMP_SET_MODE_FILTER), is(1, 0), "the filters of the next phase"),
};

}  // namespace wisp::policy
