// SPDX-License-Identifier: Apache-2.0
//
// <name of the executable>.pid in the jail's root: where the operator learns which process the monitor is.
#pragma once

#include <sys/types.h>

#include "jailer/path.h"

namespace wisp::jailer {

/// Writes `pid`, in decimal and without a line end, as Firecracker's jailer does. A file that is there already is an
/// error: a jail is used once. It belongs to root, so that the monitor cannot make the operator signal another process.
Result<void> write_pid_file(const Directory& root, const std::string& program, pid_t pid, Undo& undo);

}  // namespace wisp::jailer
