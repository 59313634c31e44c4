// SPDX-License-Identifier: Apache-2.0
//
// The command line of wisp-jailer: Firecracker's jailer flags, checked before anything on the host is touched.
// Everything here is trusted as an operator's wish but not as a path: names that become a path component are held to
// characters that cannot leave their directory.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace wisp::jailer {

/// One `--cgroup <file>=<value>`.
struct CgroupSetting {
    std::string controller;  ///< what stands before the file's first dot, e.g. "cpu"
    std::string file;        ///< e.g. "cpu.shares"
    std::string value;
};

/// `--resource-limit`. A limit that was not asked for keeps the value here.
struct ResourceLimits {
    std::optional<uint64_t> file_size_bytes;
    uint64_t open_files = 2048;
};

struct Options {
    enum class Request { kJail, kHelp, kVersion };

    Request request = Request::kJail;
    std::string id;
    std::string exec_file;
    uid_t uid = 0;
    gid_t gid = 0;
    std::string chroot_base_dir = "/srv/jailer";
    std::optional<std::string> netns;
    std::optional<std::string> parent_cgroup;  ///< relative; absent: the name of the executable
    unsigned cgroup_version = 1;
    std::vector<CgroupSetting> cgroups;
    ResourceLimits limits;
    bool daemonize = false;
    bool new_pid_ns = false;
    std::vector<std::string> program_arguments;  ///< everything after `--`
};

/// Reads argv[1] and on. Accepts `--flag value` and `--flag=value`; `--help` and `--version` win over everything else
/// before `--`. Errors name the flag, what is wrong with it and what it takes.
Result<Options> parse_options(int argc, const char* const* argv);

/// What `--help` prints.
extern const char kHelpText[];

}  // namespace wisp::jailer
