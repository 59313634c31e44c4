// SPDX-License-Identifier: Apache-2.0
//
// cgroup version 2: one hierarchy, in which a controller reaches a cgroup only if every cgroup above hands it down.
#include <fcntl.h>

#include "jailer/cgroup.h"
#include "jailer/cgroup_files.h"

namespace wisp::jailer {

namespace {

// Files like cgroup.max.descendants are part of every cgroup and need no controller.
constexpr char kCore[] = "cgroup";

// "+cpu +memory": what cgroup.subtree_control takes.
std::string controllers_to_enable(const Options& options) {
    std::string list;
    for (const CgroupSetting& setting : options.cgroups) {
        const std::string word = "+" + setting.controller;
        if (setting.controller == kCore || (" " + list + " ").find(" " + word + " ") != std::string::npos) continue;
        list += (list.empty() ? "" : " ") + word;
    }
    return list;
}

Result<void> hand_down(const Directory& cgroup, const std::string& controllers) {
    if (controllers.empty()) return {};
    auto written = write_cgroup_file(cgroup, "cgroup.subtree_control", controllers);
    if (written) return {};
    Error error = std::move(written).error();
    if (error.errno_value == ENOENT)
        error.message += "; a controller is not in its cgroup.controllers (mounted as version 1, or not handed down?)";
    if (error.errno_value == EBUSY)
        error.message += "; it holds processes itself: move them away, or choose another --parent-cgroup";
    return std::unexpected(std::move(error));
}

}  // namespace

Result<void> Cgroups::prepare_v2(const Options& options, const std::string& parent, Undo& undo) {
    if (options.cgroups.empty()) {
        const auto hierarchy = open_hierarchy_v2();
        if (!hierarchy || parent.empty()) return {};
        auto existing = open_beneath(*hierarchy, parent, O_RDONLY | O_DIRECTORY);
        if (!existing && existing.error().errno_value == ENOENT) return {};
        return will_enter({TRY(std::move(existing)), hierarchy->path + "/" + parent}, *hierarchy, "");
    }

    const std::string controllers = controllers_to_enable(options);
    const Directory& hierarchy = keep(TRY(open_hierarchy_v2()));
    std::vector<std::string> components = split_path(parent);
    components.push_back(options.id);
    const Directory* cgroup = &hierarchy;
    for (const std::string& component : components) {
        TRY(hand_down(*cgroup, controllers));
        cgroup = &keep(TRY(make_directory(*cgroup, component, 0755, undo)));
    }
    for (const CgroupSetting& setting : options.cgroups) TRY(write_cgroup_file(*cgroup, setting.file, setting.value));
    return will_enter(*cgroup, hierarchy, "");
}

}  // namespace wisp::jailer
