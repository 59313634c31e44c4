// SPDX-License-Identifier: Apache-2.0
//
// The command line of `wisp`: Firecracker's flags, taken as `--name value` or `--name=value`, up to a bare `--`.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "vmm/config/resources.h"

namespace wisp {

/// What the process is asked to do.
enum class Task : uint8_t { kRun, kHelp, kVersion, kSnapshotVersion, kDescribeSnapshot };

struct Arguments {
    Task task = Task::kRun;
    std::string id = "anonymous-instance";

    std::string api_sock = "/run/firecracker.socket";
    bool no_api = false;
    uint64_t http_api_max_payload_size = 51200;  ///< bytes
    std::optional<uint64_t> mmds_size_limit;     ///< bytes; http_api_max_payload_size if not set

    std::optional<std::string> config_file;
    std::optional<std::string> metadata;
    std::optional<std::string> describe_snapshot;

    std::optional<std::string> seccomp_filter;
    bool no_seccomp = false;

    config::Logger logger;  ///< --log-path --level --module --show-level --show-log-origin
    std::optional<std::string>
        bad_level;  ///< what --level was instead: bad configuration, to Firecracker, and no bad command line
    std::optional<std::string> metrics_path;

    bool boot_timer = false;
    bool timeline = false;                       ///< [Wisp] --timeline: when each step of the boot happened, at the end
    std::optional<uint64_t> start_time_us;       ///< CLOCK_MONOTONIC at the start of the jailer
    std::optional<uint64_t> start_time_cpu_us;   ///< CLOCK_PROCESS_CPUTIME_ID there
    std::optional<uint64_t> parent_cpu_time_us;  ///< CPU time the jailer took

    uint64_t mmds_limit() const { return mmds_size_limit.value_or(http_api_max_payload_size); }
};

/// Parses argv without its first element. The error is one line; it goes with ExitCode::kArgumentParsing.
Result<Arguments> parse_arguments(std::span<const char* const> words);

/// Text of --help.
std::string help_text();

/// Text of --version: the first line is the Firecracker version that Wisp stands in for, the next is Wisp's own.
std::string version_text();

}  // namespace wisp
