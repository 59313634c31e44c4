// SPDX-License-Identifier: Apache-2.0
//
// The header of a vsock packet (virtio 1.2, section 5.10.6): parsed from the guest's bytes, and made for the guest.
// Pure functions.
#pragma once

#include <linux/virtio_vsock.h>

#include <cstdint>
#include <expected>

namespace wisp::virtio {

/// The two ends of a connection. The contexts are fixed: the guest's and the host's.
struct VsockPorts {
    uint32_t guest = 0;
    uint32_t host = 0;
    bool operator==(const VsockPorts&) const = default;
    uint64_t key() const { return static_cast<uint64_t>(guest) << 32 | host; }
};

/// Context IDs (section 5.10.4): the host, and the first that a guest may have.
inline constexpr uint64_t kVsockHostCid = 2;
inline constexpr uint64_t kVsockFirstGuestCid = 3;

/// VIRTIO_VSOCK_OP_*
enum class VsockOp : uint16_t {
    kRequest = VIRTIO_VSOCK_OP_REQUEST,
    kResponse = VIRTIO_VSOCK_OP_RESPONSE,
    kReset = VIRTIO_VSOCK_OP_RST,
    kShutdown = VIRTIO_VSOCK_OP_SHUTDOWN,
    kData = VIRTIO_VSOCK_OP_RW,
    kCreditUpdate = VIRTIO_VSOCK_OP_CREDIT_UPDATE,
    kCreditRequest = VIRTIO_VSOCK_OP_CREDIT_REQUEST,
};

/// Bits of a SHUTDOWN's flags: what its sender will not do any more.
inline constexpr uint32_t kVsockNoReceive = VIRTIO_VSOCK_SHUTDOWN_RCV;
inline constexpr uint32_t kVsockNoSend = VIRTIO_VSOCK_SHUTDOWN_SEND;
inline constexpr uint32_t kVsockBoth = kVsockNoReceive | kVsockNoSend;

/// A packet of the guest whose header is sound in itself. Whether it fits its connection is for VsockConnection to say.
struct VsockPacket {
    VsockPorts ports;
    VsockOp op = VsockOp::kReset;
    uint32_t length = 0;     ///< bytes of data; 0 but for kData
    uint32_t flags = 0;      ///< kVsockNo…, of kShutdown
    uint32_t buf_alloc = 0;  ///< bytes that the guest buffers for this connection
    uint32_t fwd_cnt = 0;    ///< bytes that its program has taken since the connection began, modulo 2^32
};

struct VsockRefusal {
    const char* reason;
    enum class Answer : uint8_t { kNone, kReset } answer;
};

/// Checks a header that came with `available` bytes behind it. A packet of another connection type, for a context that
/// is not the host, or with an unknown operation gets an RST (sections 5.10.6.1 and 5.10.6.2). A packet whose sender is
/// not the guest is dropped.
std::expected<VsockPacket, VsockRefusal> parse_vsock_header(const virtio_vsock_hdr& header, uint64_t available,
                                                            uint64_t guest_cid);

/// The RST that answers a packet.
virtio_vsock_hdr vsock_reset_for(const virtio_vsock_hdr& header);

/// A header from the host to the guest.
virtio_vsock_hdr vsock_header(uint64_t guest_cid, VsockPorts ports, VsockOp op);

}  // namespace wisp::virtio
