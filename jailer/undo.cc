// SPDX-License-Identifier: Apache-2.0
#include "jailer/undo.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace wisp::jailer {

namespace {

// A cgroup with cgroups in it, those of other jails, counts as busy too, and will be for long.
bool has_children(int directory_fd, const char* name) {
    struct stat status;
    return fstatat(directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_nlink > 2;
}

// A cgroup stays busy until the kernel is through with the last thread that ended in it, which may be the one that has
// just failed to execute the program: a matter of microseconds, or of the host's load.
void remove_soon(int directory_fd, const char* name) {
    constexpr int kAttempts = 2000;
    constexpr useconds_t kPause_us = 1000;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        if (unlinkat(directory_fd, name, AT_REMOVEDIR) == 0 || errno != EBUSY || has_children(directory_fd, name))
            return;
        usleep(kPause_us);
    }
}

}  // namespace

void Undo::remove_file(int directory_fd, std::string name) {
    entries_.push_back({Kind::kFile, directory_fd, std::move(name), 0, 0, 0});
}

void Undo::remove_directory(int directory_fd, std::string name) {
    entries_.push_back({Kind::kDirectory, directory_fd, std::move(name), 0, 0, 0});
}

void Undo::restore_ownership(int fd, uid_t uid, gid_t gid, mode_t mode) {
    entries_.push_back({Kind::kOwnership, fd, {}, uid, gid, mode});
}

void Undo::roll_back() {
    for (; !entries_.empty(); entries_.pop_back()) {
        const Entry& entry = entries_.back();
        if (entry.kind == Kind::kOwnership) {
            [[maybe_unused]] const int owner_result = fchown(entry.fd, entry.uid, entry.gid);
            fchmod(entry.fd, entry.mode);
        } else if (entry.kind == Kind::kDirectory) {
            remove_soon(entry.fd, entry.name.c_str());
        } else {
            unlinkat(entry.fd, entry.name.c_str(), 0);
        }
    }
}

}  // namespace wisp::jailer
