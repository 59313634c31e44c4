// SPDX-License-Identifier: Apache-2.0
//
// Paths without surprises. Two kinds of path exist here:
//   - paths the operator gave (base directory, executable, network namespace, cgroup mount): resolved once, symbolic
//     links followed, because /var/run/netns and /sys/fs/cgroup/cpu are legitimately links;
//   - names the jail builds below those: one component at a time relative to the descriptor of its parent, no link
//     followed, nothing resolved twice. An earlier occupant of the jail may have left any trap it likes in there.
#pragma once

#include <sys/stat.h>

#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "jailer/undo.h"

namespace wisp::jailer {

/// A directory held open. `path` is for messages only and is never resolved again.
struct Directory {
    OwnedFd fd;
    std::string path;
    bool made = false;  ///< by this process, just now
};

/// Who a directory belongs to and what it allows.
struct Ownership {
    uid_t uid;
    gid_t gid;
    mode_t mode;
};

/// Opens a directory that the operator named.
Result<Directory> open_directory(const std::string& path);

/// Opens one name below `parent`: openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS. The error says where a
/// symbolic link stood in the way.
Result<OwnedFd> open_beneath(const Directory& parent, const std::string& name, int flags);

/// fstat(2).
Result<struct stat> stat_of(int fd, const std::string& path);

/// Makes the directory `name` in `parent`, or takes the one that is there. One made here is noted in `undo`.
Result<Directory> make_directory(const Directory& parent, const std::string& name, mode_t mode, Undo& undo);

/// An error if a directory that was there before belongs neither to root nor to `trusted_uid`: the owner of a directory
/// can put anything into it at any time, so a third party's is no place for a jail.
Result<void> check_owner(const Directory& directory, uid_t trusted_uid);

/// Gives an open directory to `owner`, unless it is that already; `undo` puts the old owner back.
Result<void> hand_over(const Directory& directory, const Ownership& owner, Undo& undo);

}  // namespace wisp::jailer
