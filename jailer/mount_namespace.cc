// SPDX-License-Identifier: Apache-2.0
#include "jailer/mount_namespace.h"

#include <fcntl.h>
#include <linux/types.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

// Of Linux 6.12's <linux/nsfs.h>, which is younger than the headers that Wisp builds with.
#ifndef NS_MNT_GET_INFO
struct mnt_ns_info {
    __u32 size;
    __u32 nr_mounts;
    __u64 mnt_ns_id;
};
#define NS_MNT_GET_INFO _IOR(0xb7, 10, struct mnt_ns_info)
#define NS_MNT_GET_NEXT _IOR(0xb7, 11, struct mnt_ns_info)
#define NS_MNT_GET_PREV _IOR(0xb7, 12, struct mnt_ns_info)
#endif

namespace wisp::jailer {

namespace {

// Below this many mounts a copy of the namespace costs less than the search for a smaller one.
constexpr unsigned kFewMounts = 8;

// How many namespaces older than ours are looked at: none where the jailer runs on the host, few in tests and
// containers.
constexpr int kMaxOlderNamespaces = 8;

// The kernel's own namespace, of its thread that fills /dev: one or two mounts, as old as the host, and the second
// oldest there is. Not just any small one: in that of a sandbox the root may be a directory long removed, on which
// nothing can be mounted. It lends its smallness and nothing else: it is copied before anything is done to it.
OwnedFd find_kernel_namespace() {
    mnt_ns_info info = {.size = sizeof info, .nr_mounts = 0, .mnt_ns_id = 0};
    OwnedFd oldest(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC)), second;
    if (!oldest.valid() || ioctl(oldest.get(), NS_MNT_GET_INFO, &info) < 0 || info.nr_mounts <= kFewMounts) return {};

    for (int seen = 0;; ++seen) {
        OwnedFd older(ioctl(oldest.get(), NS_MNT_GET_PREV, &info));
        if (!older.valid()) break;
        if (seen == kMaxOlderNamespaces) return {};
        second = std::exchange(oldest, std::move(older));
    }
    if (!second.valid()) second = OwnedFd(ioctl(oldest.get(), NS_MNT_GET_NEXT, &info));
    if (!second.valid() || ioctl(second.get(), NS_MNT_GET_INFO, &info) < 0 || info.nr_mounts > kFewMounts) return {};
    return second;
}

Result<void> enter_new_namespace() {
    // A failure to join the small one changes nothing but the cost.
    if (const OwnedFd small = find_kernel_namespace(); small.valid()) setns(small.get(), CLONE_NEWNS);
    if (unshare(CLONE_NEWNS) < 0) return fail_errno("cannot make a mount namespace; run the jailer as root");
    // All that was copied is about to be detached. Were it still shared, it would be detached on the host as well.
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) return fail_errno("cannot make mounts private");
    return {};
}

// Whatever is below the present root goes; the mount that is the working directory becomes the root.
Result<void> pivot_to_working_directory() {
    // The old root lands on top of the new one, where "." reaches it: no directory has to be made for it.
    if (syscall(SYS_pivot_root, ".", ".") < 0) {
        if (errno == EINVAL)
            return fail_errno(
                "cannot leave the host's root, which is its initial ramfs; switch_root on the host first");
        return fail_errno("cannot make the jail the root");
    }
    if (umount2(".", MNT_DETACH) < 0) return fail_errno("cannot detach the host's root");
    return {};
}

}  // namespace

Result<void> enter_root(const Directory& root) {
    const char* const path = root.path.c_str();
    // Cloned before the namespace is left, because a mount can be cloned only in the namespace it is in.
    const long clone_fd =
        syscall(SYS_open_tree, root.fd.get(), "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (clone_fd < 0) return fail_errno("cannot clone the mount of %s; run the jailer as root", path);
    const OwnedFd clone(static_cast<int>(clone_fd));

    TRY(enter_new_namespace());
    if (syscall(SYS_move_mount, clone.get(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return fail_errno("cannot mount %s", path);
    if (fchdir(clone.get()) < 0) return fail_errno("cannot enter %s", path);
    // The clone is a peer of the host's mount. As a slave it still sees what the host mounts, and never the reverse.
    if (mount(nullptr, ".", nullptr, MS_REC | MS_SLAVE, nullptr) < 0)
        return fail_errno("cannot keep mounts in %s from reaching the host", path);
    return pivot_to_working_directory();
}

}  // namespace wisp::jailer
