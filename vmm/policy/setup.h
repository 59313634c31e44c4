// SPDX-License-Identifier: Apache-2.0
//
// All threads from the end of the command line to the guest's first instruction: what builds a VM, over and above what
// runs it. It is installed first and stays below the others: a later filter can only take away.
#pragma once

#include <asm/ioctls.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "vmm/policy/rule.h"

namespace wisp::policy {

// A request's number contains the size of its argument. These arguments end in an array of any length, for which the
// kernel's headers put an empty struct, and in C++ that is not empty: the size is what C makes of it.
constexpr uint64_t with_size(uint64_t request, uint64_t bytes) {
    constexpr uint64_t kSizeField = uint64_t{_IOC_SIZEMASK} << _IOC_SIZESHIFT;
    return (request & ~kSizeField) | bytes << _IOC_SIZESHIFT;
}

inline constexpr Rule kSetUp[] = {
    // Files that the configuration names, and the rings and descriptors of the loop.
    allow("openat", "the machine file, kernel, initrd, drives, /dev/kvm; what may be opened the jail decides"),
    allow("fcntl", is(1, F_GETFL), "can the log's sink block?"),
    allow("fcntl", is(1, F_DUPFD_CLOEXEC), "descriptors that are kept back for the API's clients"),
    allow("madvise", "guest memory stays out of core dumps, and gets huge pages where asked for"),
    allow("mmap", without(2, PROT_EXEC), "guest memory, rings, a vCPU's run page, stacks; never code"),
    allow("eventfd2", "queue kicks and interrupts"),
    allow("signalfd4", "signals that the loop serves"),
    allow("epoll_create1", "waiting where the host has no io_uring"),
    allow("io_uring_setup", "the loop's ring and each drive's"),
    allow("io_uring_register", "their restrictions and files, before they are enabled"),
    allow("uname", "does this kernel's io_uring begin writes without sleeping?"),
    allow("rt_sigaction", "handlers of fatal signals and of the kick"),
    allow("sysinfo", "the C library's way to the size of the host's memory"),
    allow("getrandom", "the key of the metadata service's tokens, and the allocator's"),
    allow("pread64", "kernel image and initrd"),
    allow("mprotect", without(2, PROT_EXEC), "guards of the threads' stacks; never code"),
    allow("rt_sigprocmask", "signals that the loop serves are blocked elsewhere"),
    allow_ioctl(TIOCGPGRP, "is our terminal ours to change?"),
    allow("getpgrp", "the same"),
    // The API's socket, the guest's vsock, and taps.
    allow("bind", "the paths of the API's and the vsock's sockets"),
    allow("listen", "the same"),
    allow("prlimit64", is(0, 0), is(1, RLIMIT_NOFILE), "a descriptor for each vsock connection"),
    allow("getrlimit", is(0, RLIMIT_NOFILE), "liburing, where its table of files is larger than that limit …"),
    allow("setrlimit", is(0, RLIMIT_NOFILE), "… which it then raises"),
    allow_ioctl(TUNSETIFF, "a network interface takes its tap …"),
    allow("clock_nanosleep", "… whose last user may be just ending …"),
    allow_ioctl(TUNSETVNETHDRSZ, "… with the header that the guest's driver reads"),
    // The VM.
    allow_ioctl(KVM_GET_API_VERSION, "is it the KVM we know?"),
    allow_ioctl(KVM_GET_VCPU_MMAP_SIZE, "size of the run page"),
    allow_ioctl(with_size(KVM_GET_SUPPORTED_CPUID, 8), "what the guest's CPU can be"),
    allow_ioctl(KVM_CHECK_EXTENSION, "has it what a CPU template asks for?"),
    allow_ioctl(KVM_CREATE_VM, "the VM"),
    allow_ioctl(KVM_SET_TSS_ADDR, "three pages that Intel CPUs need"),
    allow_ioctl(KVM_CREATE_IRQCHIP, "interrupt controllers …"),
    allow_ioctl(KVM_SET_IRQCHIP, "… of which the oldest begins masked"),
    allow_ioctl(KVM_SET_USER_MEMORY_REGION, "guest memory"),
    allow_ioctl(KVM_CREATE_VCPU, "vCPUs"),
    allow_ioctl(with_size(KVM_SET_CPUID2, 8), "their CPUID"),
    allow_ioctl(KVM_GET_SREGS, "their registers at the kernel's entry …"),
    allow_ioctl(KVM_SET_SREGS, "…"),
    allow_ioctl(KVM_SET_REGS, "…"),
    allow_ioctl(with_size(KVM_SET_MSRS, 8), "… and their MSRs"),
    allow_ioctl(with_size(KVM_GET_MSRS, 8), "… of which a CPU template changes some bits"),
    allow_ioctl(KVM_SET_XCRS, "… and XCR0"),
    allow_ioctl(KVM_IOEVENTFD, "queue kicks without a way through this process"),
    allow_ioctl(KVM_IRQFD, "interrupts without one"),
    // Threads.
    allow("clone3", "a thread for each vCPU"),
    allow("clone",
          is(0, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
                    CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID),
          "the same where the kernel has no clone3; threads only"),
    allow("futex", is(1, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME),
          "joining them where the machine cannot be built: the kernel itself announces a thread's end"),
    allow("futex", is(1, FUTEX_WAIT_BITSET_PRIVATE), "waiting for the VM for a moment only: there is other work"),
    allow("set_robust_list", "the C library, in each new thread"),
    allow("rseq", "the same"),
    allow("sched_getaffinity", "where a new vCPU may run"),
    allow("sched_setaffinity", "that it does not start behind its creator"),
    allow("prctl", is(0, PR_SET_NAME), "names of threads, which operators look for"),
    allow("prctl", is(0, PR_SET_NO_NEW_PRIVS), "before a filter"),
    allow("seccomp", is(0, SECCOMP_SET_MODE_FILTER), is(1, 0), "the filters of the next phase"),
};

}  // namespace wisp::policy
