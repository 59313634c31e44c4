// SPDX-License-Identifier: Apache-2.0
//
// The limit on how long set-up may take, and the signals that end it early. Both only interrupt the system call under
// way and leave a mark, so that the step fails like any other and everything is taken back: a jailer that simply died
// of SIGTERM would leave its directories and cgroups.
#pragma once

#include "base/result.h"

namespace wisp::jailer {

/// A host on which this is not enough is broken; the longest wait seen is for a cgroup's lock, some 0.1 s.
inline constexpr unsigned kSetUpDeadline_s = 20;

/// From here on SIGTERM, SIGINT, SIGHUP, and SIGALRM after `seconds`, are marks that check_deadline() reports.
Result<void> arm_deadline(unsigned seconds);

/// Starts the time again in a process just forked, which inherits the handlers but no timer.
void rearm_deadline(unsigned seconds);

/// Stops the timer, which execve(2) would carry over. The handlers end with execve(2).
void disarm_deadline();

/// An error if the time is over or a signal asked to stop.
Result<void> check_deadline();

}  // namespace wisp::jailer
