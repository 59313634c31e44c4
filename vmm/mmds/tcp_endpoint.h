// SPDX-License-Identifier: Apache-2.0
//
// TcpEndpoint: the metadata service at its IPv4 address, on a network interface of the guest. A pure state machine:
// frames of the guest and the time go in, frames for the guest come out.
//
//   if (endpoint.receive(frame, now)) { … the endpoint has taken the frame }
//   while (size_t size = endpoint.transmit(buffer, now)) { … a frame for the guest }
//   … and again at endpoint.deadline_ms()
//
// Everything in a frame comes from the guest. Connections, and what each holds, are bounded. receive() does little; an
// answer is made by transmit(), at most one a call, so that its caller decides how much is done.
//
// Threads: the loop's; counters() may be read by any thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/counter.h"
#include "base/limits.h"
#include "vmm/mmds/service.h"
#include "vmm/mmds/tcp_connection.h"

namespace wisp::mmds {

inline constexpr config::MacAddress kMmdsMac = {0x06, 0x01, 0x23, 0x45, 0x67, 0x01};
inline constexpr config::Ipv4Address kMmdsAddress = {169, 254, 169, 254};

class TcpEndpoint {
public:
    static constexpr uint16_t kPort = 80;
    static constexpr size_t kMaxFrame = 1514;  ///< bytes, Ethernet header included; transmit() wants as much room

    TcpEndpoint(Service& service, config::Ipv4Address address) : service_(service), address_(address) {}

    /// True if the frame (without a virtio header) was for the service. Such a frame is taken even where it is
    /// malformed.
    bool receive(std::span<const uint8_t> frame, uint64_t now_ms);

    /// The next frame for the guest: its length in bytes, or 0. After 0 deadline_ms() tells when to call again.
    size_t transmit(std::span<uint8_t> frame, uint64_t now_ms);

    /// When transmit() has something to do; UINT64_MAX: not until a frame comes.
    uint64_t deadline_ms() const;

    /// Bytes of all answers that transmit() has made.
    uint64_t answer_bytes() const { return answer_bytes_; }

    size_t connections() const { return peers_.size(); }

    static constexpr RecordType kRecord{"mtcp", "mmds_tcp", 1, Need::kRequired};
    /// The content of a leaf of type kRecord. restore() is for an endpoint without connections: it resets those that
    /// there were.
    void save(RecordWriter& writer) const;
    Result<void> restore(RecordReader& reader, uint64_t now_ms);

    struct Counters {
        Counter rx_accepted, rx_accepted_err, rx_accepted_unusual, rx_bad_eth, rx_count;
        Counter tx_bytes, tx_count, tx_frames;
        Counter connections_created, connections_destroyed;
    };
    const Counters& counters() const { return counters_; }

private:
    /// Where a frame came from.
    struct Origin {
        config::MacAddress mac;
        config::Ipv4Address address;
        uint16_t port;
        bool same_peer(const Origin& other) const { return address == other.address && port == other.port; }
    };
    struct Peer {
        Origin origin;
        TcpConnection connection;
    };

    bool receive_arp(std::span<const uint8_t> frame);
    bool receive_ipv4(std::span<const uint8_t> frame, uint64_t now_ms);
    void receive_tcp(const Origin& origin, const Segment& segment, uint64_t now_ms);
    bool make_room(uint64_t now_ms);
    void refuse(const Origin& origin, const Segment& segment);
    void remove_finished();
    size_t write_arp_reply(std::span<uint8_t> frame);
    size_t write_tcp(std::span<uint8_t> frame, const Origin& to, const Segment& segment);

    Service& service_;
    const config::Ipv4Address address_;
    std::vector<Peer> peers_;
    size_t turn_ = 0;  ///< the peer that sends next
    uint32_t next_initial_ = 1;
    uint64_t answer_bytes_ = 0;

    // Answers that need no connection. Of each kind only the latest waits to be sent.
    bool arp_due_ = false, reset_due_ = false;
    Origin arp_origin_{}, reset_origin_{};
    Segment reset_;
    Counters counters_;
};

}  // namespace wisp::mmds
