// SPDX-License-Identifier: Apache-2.0
//
// MetricsSink: owns the file or FIFO of the lines of metrics, and the timer that writes them.
//
// Threads: control's.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/fd.h"
#include "base/limits.h"
#include "base/loop.h"
#include "base/result.h"
#include "vmm/config/resources.h"
#include "vmm/metrics/json.h"

namespace wisp {

class MetricsSink {
public:
    /// `visit` passes all counters to the line.
    MetricsSink(Loop& loop, std::string instance_id, std::function<void(JsonMetrics&)> visit,
                uint64_t interval_ns = limits::kMetricsInterval_s * 1'000'000'000)
        : instance_id_(std::move(instance_id)),
          visit_(std::move(visit)),
          interval_ns_(interval_ns),
          timer_(loop, [this] { on_timer(); }) {}

    /// Once: an error where a file is open already, in Firecracker's words.
    Result<void> open(const config::Metrics& wanted);

    /// Writes a line now and at each interval. Does nothing where no file is open.
    void start();

    /// Writes a line. A FIFO that is full loses it: see missed().
    Result<void> flush();

    uint64_t missed() const { return missed_; }  ///< lines that a full FIFO lost
    uint64_t failed() const { return failed_; }  ///< lines that could not be written

private:
    void on_timer();
    std::string line();
    bool write_rest();

    const std::string instance_id_;
    const std::function<void(JsonMetrics&)> visit_;
    const uint64_t interval_ns_;
    Timer timer_;
    config::Metrics wanted_;
    OwnedFd file_;
    ReportedTotals reported_;
    std::string rest_;  // of a line that a FIFO took the beginning of
    uint64_t missed_ = 0, failed_ = 0;
};

}  // namespace wisp
