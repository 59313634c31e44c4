// SPDX-License-Identifier: Apache-2.0
//
// The vsock device that a configuration describes.
#pragma once

#include <memory>

#include "base/loop.h"
#include "base/result.h"
#include "virtio/vsock.h"
#include "vmm/config/json_writer.h"
#include "vmm/config/resources.h"

namespace wisp {

/// Binds its socket. Also lets this process open as many descriptors as the device may need, as far as the hard limit
/// goes.
Result<std::unique_ptr<virtio::Vsock>> create_vsock(Loop& loop, const config::Vsock& vsock);

/// The metrics group `vsock`, by Firecracker's keys: what was counted since `told`, which becomes `now`.
void write_vsock_metrics(config::JsonWriter& out, const virtio::VsockCounters& now, virtio::VsockCounters& told);

}  // namespace wisp
