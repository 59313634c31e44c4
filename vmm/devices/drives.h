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
    /// `confine_thread`: runs first on each thread that a drive starts.
    Result<void> create(Loop& loop, const std::vector<config::Drive>& configured,
                        const virtio::ThreadSetup& confine_thread, const AddDevice& add);
    /// Once, when the guest runs and before the loop's system call filter: see virtio::Block::start_writer().
    void start_writers();
    /// The machine ends: flushes drives, at most for limits::kBlockClose_ns in all. See virtio::Block::close().
    void close();

    /// Puts another file under a drive, or changes its limits, while the machine runs.
    Result<void> patch(const config::DrivePatch& patch);

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
