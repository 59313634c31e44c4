// SPDX-License-Identifier: Apache-2.0
//
// Control groups. The jail's cgroups are made and set while the host is in view, and entered last, by a descriptor kept
// open: what the set-up itself uses is the jailer's, and a failure before that has no process to move out.
//
// Where each hierarchy is mounted is the operator's affair and may go through symbolic links. Below the mount the rules
// of path.h hold.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "jailer/options.h"
#include "jailer/path.h"

namespace wisp::jailer {

class Cgroups {
public:
    /// Makes <mount>/<parent>/<id> in each hierarchy that `options` needs and writes the values. `parent` is the parent
    /// cgroup's path. Without any `--cgroup` nothing is made, but a version 2 parent that exists will be entered.
    /// What the returned object holds open has to outlive `undo`'s use.
    Result<void> prepare(const Options& options, const std::string& parent, Undo& undo);

    /// Moves this process into them.
    Result<void> enter() const;

    /// Moves this process back to where it was when they were prepared, so that they can be removed.
    void leave() const;

private:
    struct Membership {
        OwnedFd processes;  ///< cgroup.procs of the jail's cgroup
        OwnedFd origin;     ///< cgroup.procs of the cgroup this process was in
        std::string path;
    };

    Result<void> prepare_v1(const Options& options, const std::string& parent, Undo& undo);
    Result<void> prepare_v2(const Options& options, const std::string& parent, Undo& undo);
    /// Keeps `directory` open for as long as this object lives.
    const Directory& keep(Directory directory);
    Result<void> will_enter(const Directory& cgroup, const Directory& hierarchy, const std::string& controller);

    std::vector<std::unique_ptr<Directory>> kept_;
    std::vector<Membership> memberships_;
};

}  // namespace wisp::jailer
