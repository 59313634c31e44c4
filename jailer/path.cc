// SPDX-License-Identifier: Apache-2.0
#include "jailer/path.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace wisp::jailer {

namespace {

// Where a directory is wanted and the last component is a symbolic link, the kernel says ENOTDIR, elsewhere ELOOP.
std::unexpected<Error> cannot_open(const std::string& path) {
    if (errno == ELOOP)
        return fail_errno("%s is a symbolic link, which the jail does not follow; remove it", path.c_str());
    if (errno == ENOTDIR)
        return fail_errno("%s is a symbolic link or file where the jail needs a directory; remove it", path.c_str());
    return fail_errno("cannot open %s", path.c_str());
}

}  // namespace

Result<Directory> open_directory(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail_errno("cannot open directory %s", path.c_str());
    return Directory{OwnedFd(fd), path};
}

Result<OwnedFd> open_beneath(const Directory& parent, const std::string& name, int flags) {
    open_how how = {};
    how.flags = static_cast<uint64_t>(flags | O_CLOEXEC | O_NOFOLLOW);
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    const long fd = syscall(SYS_openat2, parent.fd.get(), name.c_str(), &how, sizeof how);
    if (fd < 0) return cannot_open(parent.path + "/" + name);
    return OwnedFd(static_cast<int>(fd));
}

Result<struct stat> stat_of(int fd, const std::string& path) {
    struct stat status;
    if (fstat(fd, &status) < 0) return fail_errno("cannot stat %s", path.c_str());
    return status;
}

Result<Directory> make_directory(const Directory& parent, const std::string& name, mode_t mode, Undo& undo) {
    const bool made = mkdirat(parent.fd.get(), name.c_str(), mode) == 0;
    if (!made && errno != EEXIST) return fail_errno("cannot make directory %s/%s", parent.path.c_str(), name.c_str());
    if (made) undo.remove_directory(parent.fd.get(), name);
    return Directory{TRY(open_beneath(parent, name, O_RDONLY | O_DIRECTORY)), parent.path + "/" + name, made};
}

Result<void> check_owner(const Directory& directory, uid_t trusted_uid) {
    if (directory.made) return {};
    const struct stat status = TRY(stat_of(directory.fd.get(), directory.path));
    if (status.st_uid == 0 || status.st_uid == geteuid() || status.st_uid == trusted_uid) return {};
    return fail("%s belongs to uid %u, which is neither root nor the jail's uid %u; remove it or give it to root",
                directory.path.c_str(), status.st_uid, trusted_uid);
}

Result<void> hand_over(const Directory& directory, const Ownership& owner, Undo& undo) {
    const int fd = directory.fd.get();
    const struct stat status = TRY(stat_of(fd, directory.path));
    const mode_t mode = status.st_mode & 07777;
    if (status.st_uid == owner.uid && status.st_gid == owner.gid && mode == owner.mode) return {};

    undo.restore_ownership(fd, status.st_uid, status.st_gid, mode);
    if (fchown(fd, owner.uid, owner.gid) < 0)
        return fail_errno("cannot give %s to uid %u, gid %u", directory.path.c_str(), owner.uid, owner.gid);
    if (fchmod(fd, owner.mode) < 0)
        return fail_errno("cannot set the mode of %s to %o", directory.path.c_str(), owner.mode);
    return {};
}

}  // namespace wisp::jailer
