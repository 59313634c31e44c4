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
    Result<void> create(Loop& loop, const std::vector<config::Drive>& configured, const AddDevice& add);

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
