// SPDX-License-Identifier: Apache-2.0
//
// The vsock device that a configuration describes.
#pragma once

#include <memory>

#include "base/loop.h"
#include "base/metrics.h"
#include "base/result.h"
#include "base/unix_socket.h"
#include "virtio/vsock/device.h"
#include "vmm/config/resources.h"

namespace wisp {

/// Binds its socket, unless `listener` has it. Also lets this process open as many descriptors as the device may need,
/// as far as the hard limit goes.
Result<std::unique_ptr<virtio::Vsock>> create_vsock(Loop& loop, const config::Vsock& vsock,
                                                    std::shared_ptr<UnixListener> listener);

/// The metrics group `vsock`, by Firecracker's keys.
void visit_vsock_counters(const virtio::VsockCounters& counters, MetricsVisitor& visitor);

}  // namespace wisp
