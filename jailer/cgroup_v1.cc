// SPDX-License-Identifier: Apache-2.0
//
// cgroup version 1: a hierarchy for each controller, or for a few together.
#include <algorithm>

#include "jailer/cgroup.h"
#include "jailer/cgroup_files.h"

namespace wisp::jailer {

namespace {

// A new cpuset has no CPUs and no memory, and takes no process until it has. What it lacks is its parent's.
Result<void> inherit_cpuset(const Directory& parent, const Directory& child) {
    for (const char* file : {"cpuset.cpus", "cpuset.mems"}) {
        if (TRY(read_cgroup_file(child, file)).find_first_not_of("\n") != std::string::npos) continue;
        TRY(write_cgroup_file(child, file, TRY(read_cgroup_file(parent, file))));
    }
    return {};
}

}  // namespace

Result<void> Cgroups::prepare_v1(const Options& options, const std::string& parent, Undo& undo) {
    std::vector<std::string> controllers;
    for (const CgroupSetting& setting : options.cgroups)
        if (std::ranges::find(controllers, setting.controller) == controllers.end())
            controllers.push_back(setting.controller);

    std::vector<std::string> components = split_path(parent);
    components.push_back(options.id);
    for (const std::string& controller : controllers) {
        const Directory& hierarchy = keep(TRY(open_hierarchy_v1(controller)));
        const Directory* cgroup = &hierarchy;
        for (const std::string& component : components) {
            const Directory& child = keep(TRY(make_directory(*cgroup, component, 0755, undo)));
            if (controller == "cpuset") TRY(inherit_cpuset(*cgroup, child));
            cgroup = &child;
        }
        for (const CgroupSetting& setting : options.cgroups)
            if (setting.controller == controller) TRY(write_cgroup_file(*cgroup, setting.file, setting.value));
        TRY(will_enter(*cgroup, hierarchy, controller));
    }
    return {};
}

}  // namespace wisp::jailer
