// SPDX-License-Identifier: Apache-2.0
//
// Drives: the machine's drives, from configuration to devices, their changes while the machine runs, and their metrics.
//
// Threads: the loop's; visit_metrics() from any.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "virtio/block/device.h"
#include "vmm/config/vm_config.h"

namespace wisp {

class Drives {
public:
    using AddDevice = std::function<Result<void>(std::unique_ptr<virtio::Device>)>;

    /// Opens each drive's file and hands the device over to `add`, which keeps it for as long as this object lives.
    /// Errors name the drive, the file and the reason.
    /// `confine_thread` installs the filter of a drive's own thread, on that thread.
    Result<void> create(Loop& loop, const std::vector<config::Drive>& configured,
                        const std::function<Result<void>()>& confine_thread, const AddDevice& add);
    /// Starts the threads that make cached writes fast. Once, before the filter of the loop's thread; the guest may
    /// run.
    void start_writers();

    /// Puts another file under a drive, or changes its limits, while the machine runs.
    Result<void> patch(const config::DrivePatch& patch);

    /// The process is about to end: what is in flight completes, and Writeback drives are flushed, until `deadline_ns`
    /// (CLOCK_MONOTONIC) at most.
    void close(uint64_t deadline_ns);

    /// The groups block of each drive, and of all.
    void visit_metrics(MetricsVisitor& visitor) const;

private:
    struct Drive {
        std::string id;
        virtio::Block* device;
    };
    std::vector<Drive> drives_;
};

}  // namespace wisp
