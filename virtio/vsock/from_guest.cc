// SPDX-License-Identifier: Apache-2.0
//
// The guest's packets: from its transmit queue to the connection that they belong to, and their data on the way to the
// host.
#include "base/check.h"
#include "base/log.h"
#include "virtio/cursor.h"
#include "virtio/vsock/device.h"
#include "virtio/vsock/link.h"

namespace wisp::virtio {

void Vsock::take_packets() {
    while (queues_.batch_has_room(kTx)) {
        Chain chain;
        const Queue::Pop popped = queue(kTx).pop(chain, std::span(segments_).first(limits::kMaxQueueSize));
        if (popped == Queue::Pop::kEmpty) return;
        if (popped == Queue::Pop::kBroken) return set_broken(queue(kTx).fault());
        queues_.charge(kTx, 0);
        take_packet(chain);
        if (chain.owned()) queue(kTx).push(std::move(chain), 0);
    }
}

void Vsock::drop(Chain& chain, const char* reason) {
    ++counters_.tx_queue_event_fails;
    LOG_LIMITED("vsock: packet of the guest dropped: %s", reason);
    queue(kTx).push(std::move(chain), 0);
}

void Vsock::take_packet(Chain& chain) {
    if (chain.fault()) return drop(chain, chain.fault());
    if (!chain.writable().empty()) return drop(chain, "it has writable descriptors");
    Reader reader(chain.readable());
    const auto header = reader.read<virtio_vsock_hdr>();
    if (!header) return drop(chain, "it is shorter than a header");
    ++counters_.tx_packets_count;
    const auto packet = parse_vsock_header(*header, reader.remaining(), config_.guest_cid);
    if (!packet) return refuse(chain, *header, packet.error());

    Link* link = find(packet->ports);
    if (!link) {
        if (packet->op == VsockOp::kRequest) return open_for_guest(*packet);
        if (packet->op != VsockOp::kReset) answer_with_reset(*header);
        return;
    }
    const VsockConnection::Verdict verdict = link->connection->on_packet(*packet);
    if (verdict.fault) {
        ++counters_.conn_event_fails;
        ++counters_.conns_killed;
        LOG_LIMITED("vsock: connection of guest port %u reset: %s", packet->ports.guest, verdict.fault);
    }
    if (verdict.take_data) take_data(*link, chain, reader.rest(), packet->length);
    update(*link);
}

void Vsock::refuse(Chain& chain, const virtio_vsock_hdr& header, const VsockRefusal& refusal) {
    Link* link = refusal.answer == VsockRefusal::Answer::kReset && header.dst_cid == kVsockHostCid
                     ? find({header.src_port, header.dst_port})
                     : nullptr;
    if (link) {
        link->connection->on_broken_packet();
        ++counters_.conns_killed;
        update(*link);
    } else if (refusal.answer == VsockRefusal::Answer::kReset) {
        answer_with_reset(header);
    }
    drop(chain, refusal.reason);
}

// A guest that sends such packets faster than it takes the answers gets fewer answers.
void Vsock::answer_with_reset(const virtio_vsock_hdr& header) {
    if (resets_.size() < limits::kVsockResets)
        resets_.push_back(vsock_reset_for(header));
    else
        ++counters_.killq_resync;
}

// Data waits where it is, and several packets then go in one call; where that cannot be, it is copied.
void Vsock::take_data(Link& link, Chain& chain, std::span<GuestSlice> data, uint32_t length) {
    counters_.tx_bytes_count += length;
    size_t parts = 0;
    for (uint32_t left = length; left > 0; ++parts) {
        data[parts] = data[parts].part(0, left);
        left -= static_cast<uint32_t>(data[parts].size());
    }
    data = data.first(parts);

    const auto descriptors = static_cast<unsigned>(parts) + 1;
    if (!parked_->has_room(descriptors))  // some may only wait to be tried
        flush_dirty();
    if (!link.connection || link.connection->waiting() == 0) return;  // it ended just now: nobody will read this
    if (link.writable) dirty_.push_back(link);
    Parked* parked =
        link.buffer.empty() && parts <= limits::kVsockParkedSegments ? parked_->take(descriptors) : nullptr;
    if (!parked) {
        queues_.charge(kTx, length);
        // What is parked lies before the buffer's bytes, so this is in order.
        Reader reader(data);
        for (const std::span<std::byte> room : link.buffer.grow(length, link.connection->grant()))
            reader.read_some(room);
        return;
    }
    std::copy(data.begin(), data.end(), parked->segments.begin());
    parked->data = std::span(parked->segments).first(parts);
    parked->chain = std::move(chain);
    parked->next = nullptr;
    (link.first_parked ? link.last_parked->next : link.first_parked) = parked;
    link.last_parked = parked;
}

void Vsock::open_for_guest(const VsockPacket& packet) {
    Link* link = add_link({});
    if (!link) {
        LOG_LIMITED("vsock: connection of guest port %u refused: there are %u already", packet.ports.guest,
                    limits::kVsockConnections);
        virtio_vsock_hdr reset = vsock_header(config_.guest_cid, packet.ports, VsockOp::kReset);
        if (resets_.size() < limits::kVsockResets) resets_.push_back(reset);
        return;
    }
    link->connection = VsockConnection::from_guest(packet, take_credit(*link));
    set_ports(*link, packet.ports);
    link->timeout = link->connection->timeout();  // which update() takes away again when the connection is open
    set_deadline(*link, limits::kVsockConnectTimeout_ms);
    connect(*link);
}

}  // namespace wisp::virtio
