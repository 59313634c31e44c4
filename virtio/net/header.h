// SPDX-License-Identifier: Apache-2.0
//
// The header in front of each frame (virtio 1.2, section 5.1.6), and what the negotiated features make of it and of the
// tap. Pure functions.
//
// A header from the driver is copied once, checked here, and the copy is what the host's kernel gets: it never sees a
// header that was not checked, whatever the guest writes meanwhile.
#pragma once

#include <cstdint>

#include "virtio/net/uapi.h"

namespace wisp::virtio {

/// With VERSION_1 it has its last field, num_buffers, whether buffers are merged or not.
using NetHeader = virtio_net_hdr_v1;
static_assert(sizeof(NetHeader) == 12);

constexpr uint64_t net_feature(unsigned bit) {
    return 1ull << bit;
}

/// Features that need nothing but a tap with a virtio header, and those that also need its UDP segmentation (USO).
extern const uint64_t kNetFeatures;
extern const uint64_t kNetUsoFeatures;

/// Makes a header of the driver's ready for the tap: flags that a device is to ignore are cleared. Returns what is
/// wrong with it, or null. `frame_size`: bytes of the frame behind it.
const char* check_sent_header(NetHeader& header, uint64_t frame_size, uint64_t features);

/// Whether a driver with these features can be given a frame with this header. A tap may still hold frames that it took
/// for a driver before.
bool can_receive(const NetHeader& header, uint64_t features);

/// TUN_F_* that a driver with these features takes.
unsigned tap_offloads(uint64_t features);

}  // namespace wisp::virtio
