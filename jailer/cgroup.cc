// SPDX-License-Identifier: Apache-2.0
#include "jailer/cgroup.h"

#include <fcntl.h>
#include <unistd.h>

#include "jailer/cgroup_files.h"

namespace wisp::jailer {

Result<void> Cgroups::prepare(const Options& options, const std::string& parent, Undo& undo) {
    if (options.cgroup_version == 2) return prepare_v2(options, parent, undo);
    return prepare_v1(options, parent, undo);
}

const Directory& Cgroups::keep(Directory directory) {
    kept_.push_back(std::make_unique<Directory>(std::move(directory)));
    return *kept_.back();
}

Result<void> Cgroups::will_enter(const Directory& cgroup, const Directory& hierarchy, const std::string& controller) {
    OwnedFd processes = TRY(open_beneath(cgroup, "cgroup.procs", O_WRONLY));
    // In a cgroup namespace the origin may lie outside of what is mounted here; the top is then the nearest place.
    auto origin = open_file(hierarchy.path + TRY(own_cgroup(controller)) + "/cgroup.procs", O_WRONLY);
    if (!origin) origin = open_beneath(hierarchy, "cgroup.procs", O_WRONLY);
    memberships_.push_back({std::move(processes), TRY(std::move(origin)), cgroup.path});
    return {};
}

Result<void> Cgroups::enter() const {
    for (const Membership& membership : memberships_) {
        // "0" is the process that writes it, in every pid namespace.
        if (write(membership.processes.get(), "0", 1) == 1) continue;
        if (errno == ENOSPC)
            return fail_errno("cannot enter cgroup %s: its cpuset has no CPUs or no memory nodes",
                              membership.path.c_str());
        return fail_errno("cannot enter cgroup %s", membership.path.c_str());
    }
    return {};
}

void Cgroups::leave() const {
    for (const Membership& membership : memberships_) {
        // If it does not succeed the cgroup stays, empty, once this process has ended.
        [[maybe_unused]] const ssize_t written = write(membership.origin.get(), "0", 1);
    }
}

}  // namespace wisp::jailer
