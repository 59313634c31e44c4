// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/load/kernel_lease.h"

#include <fcntl.h>

namespace wisp::boot {

Result<KernelLease> KernelLease::take(int fd, int signal_number, pid_t thread, const std::string& path) {
    // The owner first: a lease taken without one makes the process the owner, and any of its threads may get the
    // signal.
    const f_owner_ex owner{F_OWNER_TID, thread};
    if (fcntl(fd, F_SETSIG, signal_number) < 0 || fcntl(fd, F_SETOWN_EX, &owner) < 0 ||
        fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
        return fail_errno("cannot take a lease on kernel image %s", path.c_str());
    return KernelLease(fd);
}

bool KernelLease::is_breaking() const {
    // While a break is under way, F_GETLEASE gives the type that the lease must go down to.
    return held() && fcntl(fd_, F_GETLEASE) != F_RDLCK;
}

void KernelLease::release() {
    if (held()) fcntl(std::exchange(fd_, -1), F_SETLEASE, F_UNLCK);
}

}  // namespace wisp::boot
