// SPDX-License-Identifier: Apache-2.0
#include "jailer/identity.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace wisp::jailer {

Result<void> become(uid_t uid, gid_t gid) {
    if (syscall(SYS_setgroups, 0, nullptr) < 0) return fail_errno("cannot drop supplementary groups");
    if (syscall(SYS_setresgid, gid, gid, gid) < 0) return fail_errno("cannot become gid %u", gid);
    if (syscall(SYS_setresuid, uid, uid, uid) < 0) return fail_errno("cannot become uid %u", uid);
    return {};
}

}  // namespace wisp::jailer
