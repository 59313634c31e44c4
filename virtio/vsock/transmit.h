// SPDX-License-Identifier: Apache-2.0
//
// VsockTransmitter: the guest's packets, from its transmit queue to the connection that they belong to, and their data
// on its way to the host.
//
// Threads: the loop's. Every packet is the guest's word (packet.h, connection.h).
#pragma once

#include <functional>
#include <vector>

#include "virtio/vsock/common.h"
#include "virtio/vsock/host.h"
#include "virtio/vsock/links.h"

namespace wisp::virtio {

class VsockTransmitter {
public:
    static constexpr unsigned kQueue = VsockCommon::kTx;

    /// `answer` takes a packet without a connection for the guest.
    VsockTransmitter(VsockCommon& common, VsockLinks& links, VsockHost& host,
                     std::function<void(const virtio_vsock_hdr&)> answer)
        : common_(common), links_(links), host_(host), answer_(std::move(answer)) {}

    void activate();
    /// True if serve() has something to do.
    bool has_work() const { return !links_.dirty.empty() || common_.queues[kQueue].has_available(); }
    /// Takes a batch of packets and writes their data to the host's sockets.
    void serve();

private:
    void take_packets();
    void take_packet(Chain& chain);
    void take_data(VsockLink& link, Chain& chain, std::span<GuestSlice> data, uint32_t length);
    void refuse(Chain& chain, const virtio_vsock_hdr& header, const VsockRefusal& refusal);
    void drop(Chain& chain, const char* reason);
    void open(const VsockPacket& request);

    VsockCommon& common_;
    VsockLinks& links_;
    VsockHost& host_;
    const std::function<void(const virtio_vsock_hdr&)> answer_;
    std::vector<GuestSlice> segments_;  // of the packet that is being read
};

}  // namespace wisp::virtio
