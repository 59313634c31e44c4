// SPDX-License-Identifier: Apache-2.0
//
// NetInterfaces: the machine's network interfaces: from configuration to devices, their limits while the machine runs,
// their metrics, and the metadata service that some of them reach.
//
// Threads: the loop's.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "virtio/net/device.h"
#include "vmm/config/vm_config.h"
#include "vmm/mmds/port.h"
#include "vmm/mmds/service.h"

namespace wisp {

class NetInterfaces {
public:
    using AddDevice = std::function<Result<void>(std::unique_ptr<virtio::Device>)>;

    /// Opens each interface's tap and hands the device over to `add`, which keeps it for as long as this object lives.
    /// `metadata` is what the guest reads through interfaces that mmds-config names; it may change later. Errors name
    /// the interface, the tap and the reason.
    Result<void> create(Loop& loop, const config::VmConfig& config, const mmds::DataStore* metadata,
                        const AddDevice& add);

    /// Limiters that are not given stay as they are.
    Result<void> patch(const config::NetworkInterfacePatch& patch);

    /// The process is about to end: the taps are let go of.
    void close();

    /// The groups mmds, net of each interface, and net of all.
    void visit_metrics(MetricsVisitor& visitor) const;

private:
    struct Interface {
        std::string id;
        virtio::Net* device;
        const mmds::Port* port;  // null: it does not reach the metadata
    };

    void visit_mmds(MetricsVisitor& visitor) const;

    std::unique_ptr<mmds::Service> service_;
    std::vector<Interface> interfaces_;
};

}  // namespace wisp
