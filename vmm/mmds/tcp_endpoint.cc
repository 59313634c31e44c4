// SPDX-License-Identifier: Apache-2.0
#include "vmm/mmds/tcp_endpoint.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace wisp::mmds {

namespace {

using Bytes = std::span<const uint8_t>;

// Offsets of the wire formats: Ethernet II, ARP (RFC 826), IPv4 (RFC 791), TCP (RFC 9293).
constexpr size_t kEthernet = 14, kArp = 28, kIpv4 = 20, kTcp = 20;
constexpr uint16_t kTypeIpv4 = 0x0800, kTypeArp = 0x0806;
constexpr size_t kHeaders = kEthernet + kIpv4 + kTcp;
constexpr size_t kMssOption = 4;

uint16_t load16(Bytes bytes, size_t at) {
    return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}
uint32_t load32(Bytes bytes, size_t at) {
    return static_cast<uint32_t>(load16(bytes, at)) << 16 | load16(bytes, at + 2);
}

void store16(std::span<uint8_t> bytes, size_t at, uint16_t value) {
    bytes[at] = static_cast<uint8_t>(value >> 8);
    bytes[at + 1] = static_cast<uint8_t>(value);
}
void store32(std::span<uint8_t> bytes, size_t at, uint32_t value) {
    store16(bytes, at, static_cast<uint16_t>(value >> 16));
    store16(bytes, at + 2, static_cast<uint16_t>(value));
}

template <size_t N>
std::array<uint8_t, N> load(Bytes bytes, size_t at) {
    std::array<uint8_t, N> out;
    memcpy(out.data(), bytes.data() + at, N);
    return out;
}

/// The Internet checksum's sum (RFC 1071), not folded.
uint32_t sum(Bytes bytes, uint32_t start = 0) {
    for (size_t i = 0; i + 1 < bytes.size(); i += 2) start += load16(bytes, i);
    if (bytes.size() % 2) start += static_cast<uint32_t>(bytes.back() << 8);
    return start;
}
uint16_t fold(uint32_t value) {
    while (value >> 16) value = (value & 0xffff) + (value >> 16);
    return static_cast<uint16_t>(~value);
}

/// The MSS among TCP's options, or 0. A length that makes no sense ends the search.
uint16_t find_mss(Bytes options) {
    while (!options.empty() && options[0] != 0) {
        if (options[0] == 1) {
            options = options.subspan(1);
            continue;
        }
        if (options.size() < 2 || options[1] < 2 || options[1] > options.size()) return 0;
        if (options[0] == 2 && options[1] == kMssOption) return load16(options, 2);
        options = options.subspan(options[1]);
    }
    return 0;
}

}  // namespace

bool TcpEndpoint::receive(Bytes frame, uint64_t now_ms) {
    if (frame.size() < kEthernet) return false;
    const uint16_t type = load16(frame, 12);
    const bool ours = type == kTypeArp ? receive_arp(frame) : type == kTypeIpv4 && receive_ipv4(frame, now_ms);
    counters_.rx_count += ours;
    return ours;
}

bool TcpEndpoint::receive_arp(Bytes frame) {
    // Ethernet and IPv4, a request, for our address.
    if (frame.size() < kEthernet + kArp || load32(frame, 14) != 0x00010800 || load16(frame, 18) != 0x0604 ||
        load16(frame, 20) != 1)
        return false;
    if (load<4>(frame, 38) != address_) return false;
    ++counters_.rx_accepted;
    arp_origin_ = {load<6>(frame, 22), load<4>(frame, 28), 0};
    arp_due_ = true;
    return true;
}

bool TcpEndpoint::receive_ipv4(Bytes frame, uint64_t now_ms) {
    Bytes packet = frame.subspan(kEthernet);
    if (packet.size() < kIpv4 || packet[0] >> 4 != 4 || load<4>(packet, 16) != address_) return false;
    const size_t header = (packet[0] & 15) * size_t{4};
    const size_t total = load16(packet, 2);
    const bool fragment = load16(packet, 6) & 0x3fff;
    // The packet is for this address: if it is malformed it is dropped, and does not go to the tap.
    if (header < kIpv4 || total < header + kTcp || total > packet.size() || fragment || packet[9] != 6) {
        ++counters_.rx_accepted_unusual;
        return true;
    }
    const Bytes tcp = packet.subspan(header, total - header);
    const size_t offset = (tcp[12] >> 4) * size_t{4};
    if (offset < kTcp || offset > tcp.size() || load16(tcp, 2) != kPort) {
        ++counters_.rx_accepted_err;
        return true;
    }
    // The checksum is not checked: a guest that offloads checksums to its network card has not filled it in.
    ++counters_.rx_accepted;
    const Bytes data = tcp.subspan(offset);
    Segment segment{.sequence = load32(tcp, 4), .acknowledged = load32(tcp, 8), .window = load16(tcp, 14)};
    segment.flags = tcp[13];
    segment.mss = find_mss(tcp.subspan(kTcp, offset - kTcp));
    segment.data = {reinterpret_cast<const char*>(data.data()), data.size()};
    receive_tcp({load<6>(frame, 6), load<4>(packet, 12), load16(tcp, 0)}, segment, now_ms);
    remove_finished();
    return true;
}

void TcpEndpoint::receive_tcp(const Origin& origin, const Segment& segment, uint64_t now_ms) {
    for (Peer& peer : peers_) {
        if (!peer.origin.same_peer(origin)) continue;
        peer.origin.mac = origin.mac;
        if (peer.connection.receive(segment, now_ms) == TcpConnection::Verdict::kReset) refuse(origin, segment);
        return;
    }
    const bool opens = segment.has(tcp::kSyn) && !segment.has(tcp::kAck) && !segment.has(tcp::kRst);
    if (!opens || (peers_.size() >= limits::kMmdsConnections && !make_room(now_ms))) return refuse(origin, segment);
    peers_.push_back({origin, TcpConnection(segment, next_initial_, now_ms)});
    next_initial_ += 64007;  // predictable: only the guest itself can reach the service
    ++counters_.connections_created;
}

bool TcpEndpoint::make_room(uint64_t now_ms) {
    for (size_t i = 0; i < peers_.size(); ++i) {
        if (now_ms < limits::kMmdsIdle_ms || !peers_[i].connection.idle_since(now_ms - limits::kMmdsIdle_ms)) continue;
        peers_.erase(peers_.begin() + static_cast<ptrdiff_t>(i));
        ++counters_.connections_destroyed;
        return true;
    }
    return false;
}

/// RFC 9293, section 3.10.7.1: a segment of no connection is answered with a reset, unless it is a reset itself.
void TcpEndpoint::refuse(const Origin& origin, const Segment& segment) {
    if (segment.has(tcp::kRst)) return;
    reset_ = {};
    reset_.flags = tcp::kRst | (segment.has(tcp::kAck) ? 0 : tcp::kAck);
    reset_.sequence = segment.has(tcp::kAck) ? segment.acknowledged : 0;
    reset_.acknowledged = segment.has(tcp::kAck) ? 0
                                                 : segment.sequence + static_cast<uint32_t>(segment.data.size()) +
                                                       segment.has(tcp::kSyn) + segment.has(tcp::kFin);
    reset_origin_ = origin;
    reset_due_ = true;
}

void TcpEndpoint::remove_finished() {
    counters_.connections_destroyed += std::erase_if(peers_, [](const Peer& peer) { return peer.connection.over(); });
}

size_t TcpEndpoint::transmit(std::span<uint8_t> frame, uint64_t now_ms) {
    CHECK(frame.size() >= kMaxFrame);
    if (std::exchange(arp_due_, false)) return write_arp_reply(frame);
    if (std::exchange(reset_due_, false)) return write_tcp(frame, reset_origin_, reset_);
    for (size_t tried = 0; tried < peers_.size(); ++tried) {
        Peer& peer = peers_[turn_++ % peers_.size()];
        const size_t answer = peer.connection.make_answer(service_, now_ms);
        answer_bytes_ += answer;
        Segment segment;
        if (peer.connection.transmit(segment, kMaxFrame - kHeaders, now_ms)) {
            const size_t size = write_tcp(frame, peer.origin, segment);
            remove_finished();
            return size;
        }
        if (answer > 0) return 0;  // the guest's window is closed
    }
    return 0;
}

uint64_t TcpEndpoint::deadline_ms() const {
    if (arp_due_ || reset_due_) return 0;
    uint64_t deadline = UINT64_MAX;
    for (const Peer& peer : peers_) deadline = std::min(deadline, peer.connection.deadline_ms());
    return deadline;
}

size_t TcpEndpoint::write_arp_reply(std::span<uint8_t> frame) {
    memcpy(&frame[0], arp_origin_.mac.data(), 6);
    memcpy(&frame[6], kMmdsMac.data(), 6);
    store16(frame, 12, kTypeArp);
    store32(frame, 14, 0x00010800);
    store32(frame, 18, 0x06040002);
    memcpy(&frame[22], kMmdsMac.data(), 6);
    memcpy(&frame[28], address_.data(), 4);
    memcpy(&frame[32], arp_origin_.mac.data(), 6);
    memcpy(&frame[38], arp_origin_.address.data(), 4);
    ++counters_.tx_frames;
    return kEthernet + kArp;
}

size_t TcpEndpoint::write_tcp(std::span<uint8_t> frame, const Origin& to, const Segment& segment) {
    const size_t options = segment.mss ? kMssOption : 0;
    const size_t tcp_size = kTcp + options + segment.data.size();
    const size_t size = kEthernet + kIpv4 + tcp_size;
    CHECK(size <= frame.size());
    memset(frame.data(), 0, kHeaders + options);
    memcpy(&frame[0], to.mac.data(), 6);
    memcpy(&frame[6], kMmdsMac.data(), 6);
    store16(frame, 12, kTypeIpv4);

    const std::span<uint8_t> ip = frame.subspan(kEthernet);
    ip[0] = 0x45;
    store16(ip, 2, static_cast<uint16_t>(kIpv4 + tcp_size));
    store16(ip, 6, 0x4000);  // do not fragment
    ip[8] = 64;
    ip[9] = 6;
    memcpy(&ip[12], address_.data(), 4);
    memcpy(&ip[16], to.address.data(), 4);
    store16(ip, 10, fold(sum(ip.first(kIpv4))));

    const std::span<uint8_t> tcp = ip.subspan(kIpv4);
    store16(tcp, 0, kPort);
    store16(tcp, 2, to.port);
    store32(tcp, 4, segment.sequence);
    store32(tcp, 8, segment.acknowledged);
    tcp[12] = static_cast<uint8_t>((kTcp + options) / 4 << 4);
    tcp[13] = segment.flags;
    store16(tcp, 14, segment.window);
    if (options) {
        store16(tcp, kTcp, 0x0204);
        store16(tcp, kTcp + 2, segment.mss);
    }
    if (!segment.data.empty()) memcpy(&tcp[kTcp + options], segment.data.data(), segment.data.size());
    const uint32_t pseudo = sum(ip.subspan(12, 8), static_cast<uint32_t>(6 + tcp_size));
    store16(tcp, 16, fold(sum(tcp.first(tcp_size), pseudo)));

    ++counters_.tx_frames;
    ++counters_.tx_count;
    counters_.tx_bytes += size;
    return size;
}

void TcpEndpoint::save(RecordWriter& writer) const {
    writer.u32(next_initial_);
    writer.u32(static_cast<uint32_t>(peers_.size()));
    for (const Peer& peer : peers_) {
        writer.structure(peer.origin.mac);
        writer.structure(peer.origin.address);
        writer.u16(peer.origin.port);
        peer.connection.save(writer);
    }
}

Result<void> TcpEndpoint::restore(RecordReader& reader, uint64_t now_ms) {
    constexpr uint32_t kMostSaved = 1024;  // more than this version has, for what a later one may have
    next_initial_ = TRY(reader.u32("next_initial"));
    const uint32_t count = TRY(reader.u32("connections", 0, kMostSaved));
    for (uint32_t i = 0; i < count; ++i) {
        Origin origin{};
        origin.mac = TRY(reader.structure<config::MacAddress>("mac"));
        origin.address = TRY(reader.structure<config::Ipv4Address>("address"));
        origin.port = TRY(reader.u16("port"));
        peers_.push_back({origin, TRY(TcpConnection::restore(reader, now_ms))});
    }
    return reader.finish();
}

}  // namespace wisp::mmds
