// SPDX-License-Identifier: Apache-2.0
//
// New processes: the one that becomes the monitor where --daemonize or --new-pid-ns asks for one.
//
//   --daemonize       launcher ── session leader (ends at once) ── monitor
//   --new-pid-ns      launcher ── monitor
//
// The launcher waits until the program runs, so that its exit code means something, and relays why it does not.
#pragma once

#include <sys/types.h>

#include "base/fd.h"
#include "base/result.h"

namespace wisp::jailer {

/// What the processes share in memory. The kernel writes the monitor's pid there before the monitor runs.
struct Family {
    pid_t monitor_pid = 0;          ///< in the launcher's pid namespace
    uint64_t ancestors_cpu_us = 0;  ///< processor time of the processes between the launcher and the monitor
};

/// What spawn() returns, in two processes.
struct Spawned {
    bool is_launcher = false;
    const volatile Family* family = nullptr;  ///< mapped until the process ends
    OwnedFd report;                           ///< pipe from the monitor to the launcher; closed by execve(2)
};

/// Forks. Neither flag set is not a case for it. Processes made inherit signal handlers but no timer.
Result<Spawned> spawn(bool daemonize, bool new_pid_ns);

/// The monitor: says that the program is next. Silence before this means death.
void report_start(const Spawned& monitor);
/// The monitor: says why there will be none, after it has taken back what had been made.
void report_failure(const Spawned& monitor, const Error& error);

/// What became of the monitor.
enum class Outcome {
    kRuns,
    kFailedAndCleaned,  ///< it said why, and took back what had been made
    kDied,              ///< nothing was taken back
};
struct Verdict {
    Outcome outcome;
    Error error;  ///< unless it runs
};

/// The launcher: waits for the monitor's execve(2), failure or death, or until check_deadline() has an error; then the
/// monitor is killed.
Verdict await_monitor(const Spawned& launcher);

/// Processor time this process has used, in µs.
uint64_t own_cpu_time_us();

}  // namespace wisp::jailer
