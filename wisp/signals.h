// SPDX-License-Identifier: Apache-2.0
//
// Signals of the process. Those that the loop serves are blocked in every thread and read from a signalfd; those that
// mean that the process cannot go on are caught to leave one line and Firecracker's exit code.
#pragma once

#include <functional>
#include <memory>

#include "base/fd.h"
#include "base/loop.h"

namespace wisp {

/// Catches SIGBUS, SIGSEGV, SIGILL, SIGSYS, SIGXFSZ, SIGXCPU and SIGHUP: a line on standard error, then the exit code.
/// SIGPIPE is ignored: writing to a peer that is gone is an error of that write.
void install_fatal_signal_handlers();

class SignalWatch {
public:
    /// Blocks SIGINT and SIGTERM for this thread and those it starts, and calls `on_signal` on the
    /// loop.
    static Result<std::unique_ptr<SignalWatch>> create(Loop& loop, std::function<void(int signal_number)> on_signal);

private:
    explicit SignalWatch(std::function<void(int)> on_signal) : on_signal_(std::move(on_signal)) {}
    void on_ready(uint32_t events);

    std::function<void(int)> on_signal_;
    OwnedFd fd_;
    MemberWatcher<SignalWatch, &SignalWatch::on_ready> watcher_{*this};
    Watch watch_;
};

/// Ends the process as the signal would have without us, so that a parent sees what it expects.
[[noreturn]] void die_by_signal(int signal_number);

}  // namespace wisp
