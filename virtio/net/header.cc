// SPDX-License-Identifier: Apache-2.0
#include "virtio/net/header.h"

namespace wisp::virtio {

const uint64_t kNetFeatures =
    net_feature(VIRTIO_NET_F_CSUM) | net_feature(VIRTIO_NET_F_GUEST_CSUM) | net_feature(VIRTIO_NET_F_GUEST_TSO4) |
    net_feature(VIRTIO_NET_F_GUEST_TSO6) | net_feature(VIRTIO_NET_F_GUEST_UFO) | net_feature(VIRTIO_NET_F_HOST_TSO4) |
    net_feature(VIRTIO_NET_F_HOST_TSO6) | net_feature(VIRTIO_NET_F_HOST_UFO) | net_feature(VIRTIO_NET_F_MRG_RXBUF);
const uint64_t kNetUsoFeatures =
    net_feature(VIRTIO_NET_F_GUEST_USO4) | net_feature(VIRTIO_NET_F_GUEST_USO6) | net_feature(VIRTIO_NET_F_HOST_USO);

namespace {

// The feature that each kind of segmentation needs: of the device for what the driver sends, of the driver for what it
// receives.
struct Segmentation {
    uint8_t type;
    uint64_t host, guest;
};
constexpr Segmentation kSegmentations[] = {
    {VIRTIO_NET_HDR_GSO_TCPV4, net_feature(VIRTIO_NET_F_HOST_TSO4), net_feature(VIRTIO_NET_F_GUEST_TSO4)},
    {VIRTIO_NET_HDR_GSO_TCPV6, net_feature(VIRTIO_NET_F_HOST_TSO6), net_feature(VIRTIO_NET_F_GUEST_TSO6)},
    {VIRTIO_NET_HDR_GSO_UDP, net_feature(VIRTIO_NET_F_HOST_UFO), net_feature(VIRTIO_NET_F_GUEST_UFO)},
    {VIRTIO_NET_HDR_GSO_UDP_L4, net_feature(VIRTIO_NET_F_HOST_USO),
     net_feature(VIRTIO_NET_F_GUEST_USO4) | net_feature(VIRTIO_NET_F_GUEST_USO6)},
};

const Segmentation* find_segmentation(uint8_t type) {
    for (const Segmentation& known : kSegmentations)
        if (known.type == type) return &known;
    return nullptr;
}

}  // namespace

const char* check_sent_header(NetHeader& header, uint64_t frame_size, uint64_t features) {
    header.flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;  // section 5.1.6.2.2: others are ignored
    header.num_buffers = 0;
    if (frame_size < ETH_HLEN) return "frame shorter than an Ethernet header";
    if (header.hdr_len > frame_size) return "hdr_len beyond the frame's end";
    if (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        if (!(features & net_feature(VIRTIO_NET_F_CSUM))) return "checksum left to a device that does not offer that";
        if (uint64_t{header.csum_start} + header.csum_offset + sizeof(uint16_t) > frame_size)
            return "checksum beyond the frame's end";
    }
    if (header.gso_type == VIRTIO_NET_HDR_GSO_NONE) return nullptr;
    const Segmentation* const wanted = find_segmentation(header.gso_type);
    if (!wanted) return "unknown gso_type";
    if (!(features & wanted->host)) return "gso_type that was not negotiated";
    if (header.gso_size == 0) return "segments of no size";
    return nullptr;
}

bool can_receive(const NetHeader& header, uint64_t features) {
    if ((header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && !(features & net_feature(VIRTIO_NET_F_GUEST_CSUM)))
        return false;
    if (header.gso_type == VIRTIO_NET_HDR_GSO_NONE) return true;
    const Segmentation* const kind = find_segmentation(header.gso_type);
    return kind && (features & kind->guest);
}

unsigned tap_offloads(uint64_t features) {
    const auto has = [&](unsigned bit) { return (features & net_feature(bit)) != 0; };
    if (!has(VIRTIO_NET_F_GUEST_CSUM)) return 0;  // section 5.1.3.1: the others depend on it
    unsigned offloads = TUN_F_CSUM;
    if (has(VIRTIO_NET_F_GUEST_TSO4)) offloads |= TUN_F_TSO4;
    if (has(VIRTIO_NET_F_GUEST_TSO6)) offloads |= TUN_F_TSO6;
    if (has(VIRTIO_NET_F_GUEST_UFO)) offloads |= TUN_F_UFO;
    // A tap does both or none.
    if (has(VIRTIO_NET_F_GUEST_USO4) && has(VIRTIO_NET_F_GUEST_USO6)) offloads |= TUN_F_USO4 | TUN_F_USO6;
    return offloads;
}

}  // namespace wisp::virtio
