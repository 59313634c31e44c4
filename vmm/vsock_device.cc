// SPDX-License-Identifier: Apache-2.0
#include "vmm/vsock_device.h"

#include <sys/resource.h>

#include <algorithm>

#include "base/limits.h"

namespace wisp {

namespace {

// Each connection is a descriptor, and the usual soft limit of 1,024 is less than they can be. Where the hard limit is
// low too, connections beyond it are refused.
void allow_descriptors(rlim_t count) {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= count) return;
    limit.rlim_cur = std::min(count, limit.rlim_max);
    setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

Result<std::unique_ptr<virtio::Vsock>> create_vsock(Loop& loop, const config::Vsock& vsock) {
    allow_descriptors(limits::kVsockDescriptors);
    return virtio::Vsock::create(loop, {vsock.guest_cid, vsock.uds_path});
}

}  // namespace wisp
