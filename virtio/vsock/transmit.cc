// SPDX-License-Identifier: Apache-2.0
#include "virtio/vsock/transmit.h"

#include "base/check.h"
#include "base/log.h"
#include "virtio/cursor.h"

namespace wisp::virtio {

void VsockTransmitter::activate() {
    segments_.resize(limits::kMaxQueueSize);  // now, as many a machine never uses its vsock
    links_.parked().set_descriptors(common_.queues[kQueue].size() / 4);
}

// Data that a socket takes again goes before the packets that come now.
void VsockTransmitter::serve() {
    if (!common_.queues.begin_batch(kQueue)) return;
    host_.write_dirty();
    take_packets();
    host_.write_dirty();
}

void VsockTransmitter::take_packets() {
    while (common_.queues.serving() && common_.queues.batch_has_room(kQueue)) {
        Queue& queue = common_.queues[kQueue];
        Chain chain;
        const Queue::Pop popped = queue.pop(chain, segments_);
        if (popped == Queue::Pop::kEmpty) return;
        if (popped == Queue::Pop::kBroken) return common_.queues.set_broken(queue.fault());
        common_.queues.charge(kQueue, 0);
        take_packet(chain);
        if (chain.owned()) queue.push(std::move(chain), 0);
    }
}

void VsockTransmitter::drop(Chain& chain, const char* reason) {
    ++common_.counters.tx_queue_event_fails;
    LOG_LIMITED("vsock: packet of the guest dropped: %s", reason);
    common_.queues[kQueue].push(std::move(chain), 0);
}

void VsockTransmitter::take_packet(Chain& chain) {
    if (chain.fault()) return drop(chain, chain.fault());
    if (!chain.writable().empty()) return drop(chain, "it has writable descriptors");
    Reader reader(chain.readable());
    const auto header = reader.read<virtio_vsock_hdr>();
    if (!header) return drop(chain, "it is shorter than a header");
    ++common_.counters.tx_packets_count;
    const auto packet = parse_vsock_header(*header, reader.remaining(), common_.config.guest_cid);
    if (!packet) return refuse(chain, *header, packet.error());

    VsockLink* link = links_.find(packet->ports);
    if (!link) {
        if (packet->op == VsockOp::kRequest) return open(*packet);
        if (packet->op != VsockOp::kReset) answer_(vsock_reset_for(*header));
        return;
    }
    const VsockConnection::Verdict verdict = link->connection->on_packet(*packet);
    if (verdict.fault) {
        ++common_.counters.conn_event_fails;
        ++common_.counters.conns_killed;
        LOG_LIMITED("vsock: connection of guest port %u reset: %s", packet->ports.guest, verdict.fault);
    }
    if (verdict.take_data) take_data(*link, chain, reader.rest(), packet->length);
    links_.update(*link);
}

void VsockTransmitter::refuse(Chain& chain, const virtio_vsock_hdr& header, const VsockRefusal& refusal) {
    VsockLink* link = refusal.answer == VsockRefusal::Answer::kReset && header.dst_cid == kVsockHostCid
                          ? links_.find({header.src_port, header.dst_port})
                          : nullptr;
    if (link) {
        link->connection->on_broken_packet();
        ++common_.counters.conns_killed;
        links_.update(*link);
    } else if (refusal.answer == VsockRefusal::Answer::kReset) {
        answer_(vsock_reset_for(header));
    }
    drop(chain, refusal.reason);
}

// Data waits where it is, and several packets then go in one call; where that cannot be, it is copied.
void VsockTransmitter::take_data(VsockLink& link, Chain& chain, std::span<GuestSlice> data, uint32_t length) {
    common_.counters.tx_bytes_count += length;
    size_t parts = 0;
    for (uint32_t left = length; left > 0; ++parts) {
        data[parts] = data[parts].part(0, left);
        left -= static_cast<uint32_t>(data[parts].size());
    }
    // Some of what occupies the room for parked packets may only wait to be written.
    if (!links_.parked().has_room(static_cast<unsigned>(parts) + 1)) host_.write_dirty();
    if (!link.connection || link.connection->waiting() == 0) return;  // it ended just now
    if (link.writable) links_.dirty.push_back(link);
    if (link.outbox.put(chain, data.first(parts), link.connection->grant()) == VsockOutbox::Put::kCopied)
        common_.queues.charge(kQueue, length);
}

void VsockTransmitter::open(const VsockPacket& request) {
    VsockLink* link = links_.add({});
    if (!link) {
        LOG_LIMITED("vsock: connection of guest port %u refused: there are %u already", request.ports.guest,
                    limits::kVsockConnections);
        return answer_(vsock_header(common_.config.guest_cid, request.ports, VsockOp::kReset));
    }
    links_.open_from_guest(*link, request);
    host_.connect(*link);
}

}  // namespace wisp::virtio
