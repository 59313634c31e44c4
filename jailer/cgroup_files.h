// SPDX-License-Identifier: Apache-2.0
//
// Where cgroup hierarchies are mounted, and their files.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "jailer/path.h"

namespace wisp::jailer {

/// The mount of the version 1 hierarchy that has `controller`.
Result<Directory> open_hierarchy_v1(const std::string& controller);

/// The mount of the version 2 hierarchy, which on a host with both lies beside the others.
Result<Directory> open_hierarchy_v2();

/// Mount point of the first line of /proc/self/mountinfo with this file system type and, unless it is empty, this word
/// among the super block's options; empty if there is none. Pure.
std::string find_mount(std::string_view mountinfo, std::string_view type, std::string_view option);

/// Path of this process's cgroup in the hierarchy with `controller` (empty: version 2), from /proc/self/cgroup.
Result<std::string> own_cgroup(const std::string& controller);

/// The same from the text of that file; "/" if the hierarchy is not in it. Pure.
std::string find_own_cgroup(std::string_view text, std::string_view controller);

/// Components of a relative path.
std::vector<std::string> split_path(std::string_view path);

Result<std::string> read_cgroup_file(const Directory& cgroup, const std::string& file);
Result<void> write_cgroup_file(const Directory& cgroup, const std::string& file, const std::string& value);

}  // namespace wisp::jailer
