// SPDX-License-Identifier: Apache-2.0
//
// Stop: why a VM ended. StopSink: carries the first reason to control.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "base/exit_code.h"
#include "base/loop.h"

namespace wisp {

struct Stop {
    ExitCode code = ExitCode::kOk;
    std::string message;  ///< one line for the log
};

/// Carries the first Stop to control's loop, and drops later ones. Any thread.
class StopSink {
public:
    StopSink(Loop& loop, std::function<void(Stop)> on_stop)
        : bell_(loop, [this, on_stop = std::move(on_stop)] { on_stop(std::move(stop_)); }) {}

    void request(Stop stop) {
        if (stopping_.exchange(true, std::memory_order_acq_rel)) return;
        stop_ = std::move(stop);
        bell_.ring();
    }
    /// True once the VM is ending: a vCPU then stays out of the guest.
    bool stopping() const { return stopping_.load(std::memory_order_acquire); }

private:
    Stop stop_;  // of the first request; read by the loop after the ring
    Doorbell bell_;
    std::atomic<bool> stopping_ = false;
};

}  // namespace wisp
