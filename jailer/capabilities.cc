// SPDX-License-Identifier: Apache-2.0
#include "jailer/capabilities.h"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace wisp::jailer {

namespace {

// capget(2) has no wrapper in the C library; 0 means the calling thread.
constexpr __user_cap_header_struct kThisThread = {_LINUX_CAPABILITY_VERSION_3, 0};

// The sets are 64 bits wide: a kernel cannot have more capabilities than that.
constexpr int kMaxCapabilities = 64;

}  // namespace

Result<CapabilitySets> read_capabilities() {
    CapabilitySets sets;
    __user_cap_header_struct header = kThisThread;
    if (syscall(SYS_capget, &header, sets.words) < 0) return fail_errno("cannot read capabilities");
    return sets;
}

Result<void> write_capabilities(const CapabilitySets& sets) {
    __user_cap_header_struct header = kThisThread;
    if (syscall(SYS_capset, &header, sets.words) < 0) return fail_errno("cannot set capabilities");
    return {};
}

Result<void> set_no_new_privileges() {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return fail_errno("cannot set no_new_privs");
    return {};
}

Result<void> empty_bounding_set() {
    for (int capability = 0; capability < kMaxCapabilities; ++capability) {
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) continue;
        if (errno == EINVAL && capability > 0) break;  // one past the last that this kernel knows
        return fail_errno("cannot drop capability %d from the bounding set; run the jailer as root", capability);
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) return fail_errno("cannot empty the ambient set");
    return {};
}

Result<void> drop_capabilities() {
    return write_capabilities({});
}

}  // namespace wisp::jailer
