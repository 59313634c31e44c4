// SPDX-License-Identifier: Apache-2.0
//
// LogSink: where the log goes.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "vmm/config/resources.h"

namespace wisp {

/// The owner of the log's sink. Until it is configured, lines of level Info go to standard output, reopened so that
/// writes do not block.
///
/// Threads: the main thread's until control has a thread, then control's. Before vCPUs run.
class LogSink {
public:
    explicit LogSink(std::string instance_id);

    /// What is not given stays as it is. Fails, with nothing changed, where the file cannot be opened.
    Result<void> configure(const config::Logger& wanted);

private:
    OwnedFd file_;
};

}  // namespace wisp
