// SPDX-License-Identifier: Apache-2.0
//
// VsockReceiver: packets for the guest. Its receive buffers are filled with what each connection has for it,
// connections in turn, data straight from their sockets.
//
// Threads: the loop's. Trusts no chain.
#pragma once

#include <vector>

#include "virtio/vsock/common.h"
#include "virtio/vsock/host.h"
#include "virtio/vsock/links.h"

namespace wisp::virtio {

class VsockReceiver {
public:
    static constexpr unsigned kQueue = VsockCommon::kRx;

    VsockReceiver(VsockCommon& common, VsockLinks& links, VsockHost& host)
        : common_(common), links_(links), host_(host) {}

    void activate();
    /// Sends an RST that belongs to no connection. A guest that asks for them faster than it takes them gets fewer.
    void send_reset(const virtio_vsock_hdr& reset);
    /// Tells the driver that all connections have ended, by an event (section 5.10.6.7).
    void send_transport_reset() { event_due_ = true; }
    /// True if serve() has something to do.
    bool has_work() const {
        return (has_packets() && common_.queues[kQueue].has_available()) ||
               (event_due_ && common_.queues[VsockCommon::kEvents].has_available());
    }
    /// Fills a batch of buffers.
    void serve();
    /// The driver has to kick from now on, if packets wait for its buffers. True if there is work already.
    [[nodiscard]] bool arm();
    /// Gives up what waits for the guest and belongs to no connection: for a reset.
    void abandon();

private:
    struct Buffer {
        Chain chain;
        WritableSlice header;   // empty: cut into the segments in split_header_
        uint32_t capacity = 0;  // bytes of data
    };
    enum class For : uint8_t { kHeader, kData };

    Queue& queue() { return common_.queues[kQueue]; }
    bool has_packets() const { return !links_.work.empty() || !resets_.empty(); }
    bool send_next();
    bool take_buffers(uint64_t wanted, For what);
    const char* prepare_buffer(Buffer& buffer, For what);
    void return_buffers(unsigned from);
    void send(Buffer& buffer, const virtio_vsock_hdr& header);
    bool send_due(VsockLink& link);
    bool send_data(VsockLink& link);
    void deliver(VsockLink& link, uint32_t size);
    void send_event();

    VsockCommon& common_;
    VsockLinks& links_;
    VsockHost& host_;
    std::vector<virtio_vsock_hdr> resets_;  // answers to packets of no connection
    bool event_due_ = false;

    // Of the packets that are being made.
    std::vector<GuestSlice> segments_;
    std::vector<iovec> parts_;
    std::vector<Buffer> buffers_;
    unsigned buffer_count_ = 0;
    std::vector<WritableSlice> split_header_;
};

}  // namespace wisp::virtio
