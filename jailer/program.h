// SPDX-License-Identifier: Apache-2.0
//
// The jailed program's first and last line: its arguments and its execution.
#pragma once

#include "jailer/options.h"

namespace wisp::jailer {

/// The clocks that the monitor reports its start-up time from.
struct StartTimes {
    uint64_t start_us;       ///< CLOCK_MONOTONIC when the jailer started
    uint64_t own_cpu_us;     ///< processor time of this process so far
    uint64_t parent_cpu_us;  ///< processor time of the jailer, all its processes before the monitor's included
};

/// Executes /`name` with an empty environment and the arguments that Firecracker's jailer gives. Returns only if it
/// cannot.
Error execute_program(const std::string& name, const Options& options, const StartTimes& times);

}  // namespace wisp::jailer
