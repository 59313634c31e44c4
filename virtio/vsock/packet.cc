// SPDX-License-Identifier: Apache-2.0
#include "virtio/vsock/packet.h"

#include <bit>

#include "base/limits.h"

namespace wisp::virtio {

static_assert(sizeof(virtio_vsock_hdr) == 44);
static_assert(std::endian::native == std::endian::little, "the header's fields are used as they lie");

std::expected<VsockPacket, VsockRefusal> parse_vsock_header(const virtio_vsock_hdr& header, uint64_t available,
                                                            uint64_t guest_cid) {
    using Answer = VsockRefusal::Answer;
    const bool is_reset = header.op == VIRTIO_VSOCK_OP_RST;
    // An RST is never answered: two sides that know nothing of a connection would go on for ever.
    const auto refuse = [&](const char* reason) {
        return std::unexpected(VsockRefusal{reason, is_reset ? Answer::kNone : Answer::kReset});
    };
    // No context has that address, so no answer can be sent.
    if (header.src_cid != guest_cid) return std::unexpected(VsockRefusal{"src_cid is not the guest's", Answer::kNone});
    if (header.dst_cid != kVsockHostCid) return refuse("dst_cid is not the host");
    if (header.type != VIRTIO_VSOCK_TYPE_STREAM) return refuse("type is not stream");
    if (header.op == VIRTIO_VSOCK_OP_INVALID || header.op > VIRTIO_VSOCK_OP_CREDIT_REQUEST) return refuse("unknown op");
    if (header.op != VIRTIO_VSOCK_OP_RW && header.len != 0) return refuse("data with an op that has none");
    if (header.len > limits::kVsockPacket) return refuse("more data than a packet can have");
    if (header.len > available) return refuse("len is more than the chain holds");
    if (header.op == VIRTIO_VSOCK_OP_SHUTDOWN && (header.flags & ~kVsockBoth)) return refuse("unknown shutdown flag");

    VsockPacket packet;
    packet.ports = {header.src_port, header.dst_port};
    packet.op = static_cast<VsockOp>(header.op);
    packet.length = header.len;
    packet.flags = packet.op == VsockOp::kShutdown ? header.flags : 0;
    packet.buf_alloc = header.buf_alloc;
    packet.fwd_cnt = header.fwd_cnt;
    return packet;
}

virtio_vsock_hdr vsock_reset_for(const virtio_vsock_hdr& header) {
    virtio_vsock_hdr reset{};
    reset.src_cid = header.dst_cid;
    reset.dst_cid = header.src_cid;
    reset.src_port = header.dst_port;
    reset.dst_port = header.src_port;
    reset.type = header.type;
    reset.op = VIRTIO_VSOCK_OP_RST;
    return reset;
}

virtio_vsock_hdr vsock_header(uint64_t guest_cid, VsockPorts ports, VsockOp op) {
    virtio_vsock_hdr header{};
    header.src_cid = kVsockHostCid;
    header.dst_cid = guest_cid;
    header.src_port = ports.host;
    header.dst_port = ports.guest;
    header.type = VIRTIO_VSOCK_TYPE_STREAM;
    header.op = static_cast<uint16_t>(op);
    return header;
}

}  // namespace wisp::virtio
