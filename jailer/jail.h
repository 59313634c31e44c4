// SPDX-License-Identifier: Apache-2.0
//
// The jail: builds it, in the order that jail.cc lists, and runs the program in it.
#pragma once

#include "jailer/options.h"

namespace wisp::jailer {

/// Returns an error, with nothing left behind on the host; or success in the launcher of a daemon or a pid namespace,
/// once the program runs. Otherwise the program takes this process over and nothing returns.
Result<void> run_in_jail(const Options& options);

}  // namespace wisp::jailer
