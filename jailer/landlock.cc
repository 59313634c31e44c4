// SPDX-License-Identifier: Apache-2.0
#include "jailer/landlock.h"

#include <linux/landlock.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

// Younger than the headers that Wisp builds with (6.1); from the kernel's Documentation/userspace-api/landlock.rst.
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (1ULL << 15)
#endif
#ifndef LANDLOCK_ACCESS_NET_BIND_TCP
#define LANDLOCK_ACCESS_NET_BIND_TCP (1ULL << 0)
#define LANDLOCK_ACCESS_NET_CONNECT_TCP (1ULL << 1)
#endif
#ifndef LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
#define LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET (1ULL << 0)
#define LANDLOCK_SCOPE_SIGNAL (1ULL << 1)
#endif

namespace wisp::jailer {

namespace {

// struct landlock_ruleset_attr as of ABI 6. A kernel takes a longer one than it knows if the rest is 0, which
// known_to() sees to.
struct Ruleset {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
};

constexpr uint64_t kExecute = LANDLOCK_ACCESS_FS_EXECUTE;
constexpr uint64_t kMakeDevices = LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK;
constexpr uint64_t kAllOfAbi1 = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;

// All that can be restricted on a kernel of this ABI is.
Ruleset known_to(long abi) {
    Ruleset ruleset = {kAllOfAbi1, 0, 0};
    if (abi >= 2) ruleset.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3) ruleset.handled_access_fs |= LANDLOCK_ACCESS_FS_TRUNCATE;
    if (abi >= 4) ruleset.handled_access_net = LANDLOCK_ACCESS_NET_BIND_TCP | LANDLOCK_ACCESS_NET_CONNECT_TCP;
    if (abi >= 5) ruleset.handled_access_fs |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
    if (abi >= 6) ruleset.scoped = LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | LANDLOCK_SCOPE_SIGNAL;
    return ruleset;
}

Result<void> allow_beneath(const OwnedFd& ruleset, int fd, uint64_t access) {
    const landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
    if (syscall(SYS_landlock_add_rule, ruleset.get(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
        return fail_errno("cannot add a Landlock rule");
    return {};
}

}  // namespace

Result<void> restrict_with_landlock(int root_fd, int program_fd) {
    const long abi = syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1) return {};

    const Ruleset rules = known_to(abi);
    const OwnedFd ruleset(static_cast<int>(syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0)));
    if (!ruleset.valid()) return fail_errno("cannot create a Landlock ruleset");
    const uint64_t everything = rules.handled_access_fs;
    TRY(allow_beneath(ruleset, root_fd, everything & ~(kExecute | kMakeDevices | LANDLOCK_ACCESS_FS_REFER)));
    TRY(allow_beneath(ruleset, program_fd, kExecute | LANDLOCK_ACCESS_FS_READ_FILE));
    if (syscall(SYS_landlock_restrict_self, ruleset.get(), 0) < 0)
        return fail_errno("cannot apply the Landlock ruleset");
    return {};
}

}  // namespace wisp::jailer
