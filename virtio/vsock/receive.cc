// SPDX-License-Identifier: Apache-2.0
#include "virtio/vsock/receive.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "virtio/cursor.h"

namespace wisp::virtio {

namespace {

constexpr unsigned kBuffersAtOnce = 64;
constexpr size_t kPartsAtOnce = 512;
constexpr size_t kSegmentsAtOnce = kPartsAtOnce + limits::kMaxQueueSize;

}  // namespace

// Memory is taken now, as many a machine never uses its vsock.
void VsockReceiver::activate() {
    segments_.resize(kSegmentsAtOnce);
    parts_.reserve(kPartsAtOnce);
    buffers_.resize(kBuffersAtOnce);
    resets_.reserve(limits::kVsockResets);
}

void VsockReceiver::abandon() {
    resets_.clear();
    event_due_ = false;
}

void VsockReceiver::send_reset(const virtio_vsock_hdr& reset) {
    if (resets_.size() < limits::kVsockResets)
        resets_.push_back(reset);
    else
        ++common_.counters.killq_resync;
}

bool VsockReceiver::arm() {
    bool any = false;
    // New buffers are of interest only where something waits for them.
    if (has_packets()) any |= common_.queues.enable_notifications(kQueue);
    if (event_due_) any |= common_.queues.enable_notifications(VsockCommon::kEvents);
    return any;
}

void VsockReceiver::serve() {
    common_.queues.disable_notifications(kQueue);
    common_.queues.disable_notifications(VsockCommon::kEvents);
    if (event_due_) send_event();
    if (!common_.queues.serving() || !has_packets() || !queue().has_available()) return;
    if (!common_.queues.begin_batch(kQueue)) return;
    while (common_.queues.batch_has_room(kQueue) && queue().has_available() && send_next()) {
    }
    if (const char* fault = queue().fault()) common_.queues.set_broken(fault);
}

// False if nothing is left to send, or no buffer to send it in.
bool VsockReceiver::send_next() {
    if (!resets_.empty()) {
        if (!take_buffers(0, For::kHeader)) return false;
        send(buffers_[0], resets_.front());
        resets_.erase(resets_.begin());
        return true;
    }
    if (links_.work.empty()) return false;
    VsockLink& link = links_.work.pop_front();
    if (link.connection->due_packet()) {
        if (!send_due(link)) return links_.work.push_back(link), false;
    } else if (link.wants_guest()) {
        if (!send_data(link)) return links_.work.push_back(link), false;
    }
    links_.update(link);
    return true;
}

// ---- buffers ----

// Takes buffers until they hold `wanted` bytes of data, or at least one. False if there is none.
bool VsockReceiver::take_buffers(uint64_t wanted, For what) {
    Queue& rx = queue();
    parts_.clear();
    buffer_count_ = 0;
    size_t used = 0;
    for (uint64_t total = 0; buffer_count_ < buffers_.size() && (buffer_count_ == 0 || total < wanted);) {
        if (segments_.size() - used < limits::kMaxQueueSize || !common_.queues.batch_has_room(kQueue)) break;
        Buffer& buffer = buffers_[buffer_count_];
        const Queue::Pop popped = rx.pop(buffer.chain, std::span(segments_).subspan(used, limits::kMaxQueueSize));
        if (popped == Queue::Pop::kEmpty) break;
        if (popped == Queue::Pop::kBroken) {
            for (unsigned i = 0; i < buffer_count_; ++i) buffers_[i].chain.abandon();
            buffer_count_ = 0;
            return false;
        }
        const size_t parts_before = parts_.size();
        const char* fault = prepare_buffer(buffer, what);
        // One that is at fault, or cut up, comes first or in the next batch: only the last can be put back.
        if (buffer_count_ > 0 && (fault || buffer.header.empty())) {
            rx.unpop(std::move(buffer.chain));
            parts_.resize(parts_before);
            break;
        }
        if (fault) {
            common_.queues.charge(kQueue, 0);
            ++common_.counters.rx_queue_event_fails;
            LOG_LIMITED("vsock: receive buffer of the guest not used: %s", fault);
            rx.push(std::move(buffer.chain), 0);
            continue;
        }
        used += buffer.chain.writable().size();
        total += buffer.capacity;
        ++buffer_count_;
        if (buffer.header.empty()) break;
    }
    return buffer_count_ > 0;
}

// Splits a buffer into header and data, and adds the latter to parts_.
const char* VsockReceiver::prepare_buffer(Buffer& buffer, For what) {
    if (buffer.chain.fault()) return buffer.chain.fault();
    if (!buffer.chain.readable().empty()) return "it has readable descriptors";
    constexpr size_t kHeader = sizeof(virtio_vsock_hdr);
    const std::span<WritableSlice> slices = buffer.chain.writable();
    const uint64_t size = total_size(slices);
    if (size < kHeader + (what == For::kData ? 1 : 0)) return "it is too small";

    buffer.header = {};
    if (slices[0].size() >= kHeader)
        buffer.header = slices[0].part(0, kHeader);
    else
        split_header_.assign(slices.begin(), slices.end());
    buffer.capacity = 0;
    if (what == For::kHeader) return nullptr;
    Writer data(slices);
    data.skip(kHeader);
    for (const WritableSlice& slice : data.rest()) {
        const WritableSlice part = slice.part(0, limits::kVsockPacket - buffer.capacity);
        if (part.empty()) break;
        parts_.push_back(part.as_iovec());
        buffer.capacity += static_cast<uint32_t>(part.size());
    }
    return nullptr;
}

// Puts back the buffers from index `from` on.
void VsockReceiver::return_buffers(unsigned from) {
    while (buffer_count_ > from) {
        queue().unpop(std::move(buffers_[--buffer_count_].chain));
    }
}

void VsockReceiver::send(Buffer& buffer, const virtio_vsock_hdr& header) {
    const auto bytes = std::as_bytes(std::span(&header, 1));
    if (buffer.header.empty())
        Writer(split_header_).write_some(bytes);
    else
        buffer.header.copy_from(bytes);
    queue().push(std::move(buffer.chain), static_cast<uint32_t>(sizeof header) + header.len);
    common_.queues.charge(kQueue, header.len);
    common_.loop.expect_answer();
    ++common_.counters.rx_packets_count;
}

// ---- packets ----

bool VsockReceiver::send_due(VsockLink& link) {
    if (!take_buffers(0, For::kHeader)) return false;
    VsockConnection& connection = *link.connection;
    const VsockConnection::Due due = *connection.due_packet();
    virtio_vsock_hdr header = vsock_header(common_.config.guest_cid, link.ports, due.op);
    header.flags = due.flags;
    if (due.op != VsockOp::kReset) {
        header.buf_alloc = connection.buf_alloc();
        header.fwd_cnt = connection.fwd_cnt();
    }
    send(buffers_[0], header);
    connection.on_sent(due);
    return true;
}

bool VsockReceiver::send_data(VsockLink& link) {
    VsockConnection& connection = *link.connection;
    const uint64_t limit = std::min(connection.may_send(), limits::kVsockTurnBytes);
    if (!take_buffers(std::min<uint64_t>(limit, link.expected), For::kData)) return false;
    size_t asked = 0;
    size_t parts = 0;
    for (; parts < parts_.size() && asked < limit; ++parts) {
        parts_[parts].iov_len = std::min(parts_[parts].iov_len, limit - asked);
        asked += parts_[parts].iov_len;
    }
    const Received received = host_.read(link, std::span(parts_).first(parts));
    if (received.size > 0) {
        const auto size = static_cast<size_t>(received.size);
        // As much again is likely, and more if this was all there was room for.
        link.expected = static_cast<uint32_t>(size == asked ? std::min<size_t>(2 * size, limits::kVsockTurnBytes)
                                                            : std::max<size_t>(size, 4096));
        if (size < asked && !received.more) link.readable = link.ending;  // all there was
        deliver(link, static_cast<uint32_t>(size));
        return true;
    }
    return_buffers(0);
    if (received.size == -EAGAIN) {
        link.readable = false;
    } else if (is_shortage(received.size)) {
        host_.retry_read(link);
    } else if (received.size == 0) {
        connection.on_host_shut_send();
    } else {  // the host's program went away without reading all
        if (received.size != -ECONNRESET) ++common_.counters.rx_read_fails;
        connection.on_host_shut_send();
        links_.drop_data(link);
    }
    return true;
}

// `size` bytes lie in the buffers that were taken: each gets its header and goes to the guest.
void VsockReceiver::deliver(VsockLink& link, uint32_t size) {
    common_.counters.rx_bytes_count += size;
    virtio_vsock_hdr header = vsock_header(common_.config.guest_cid, link.ports, VsockOp::kData);
    header.buf_alloc = link.connection->buf_alloc();
    header.fwd_cnt = link.connection->fwd_cnt();
    unsigned filled = 0;
    for (uint32_t left = size; left > 0; ++filled) left -= std::min(left, buffers_[filled].capacity);
    return_buffers(filled);
    uint32_t left = size;
    for (unsigned i = 0; i < filled; ++i) {
        header.len = std::min(left, buffers_[i].capacity);
        left -= header.len;
        send(buffers_[i], header);
    }
    link.connection->on_data_sent(size);
}

void VsockReceiver::send_event() {
    Queue& events = common_.queues[VsockCommon::kEvents];
    Chain chain;
    const Queue::Pop popped = events.pop(chain, std::span(segments_).first(limits::kMaxQueueSize));
    if (popped == Queue::Pop::kEmpty) return;
    if (popped == Queue::Pop::kBroken) return common_.queues.set_broken(events.fault());
    const virtio_vsock_event event{VIRTIO_VSOCK_EVENT_TRANSPORT_RESET};
    if (chain.fault() || !Writer(chain.writable()).write(event)) {
        ++common_.counters.ev_queue_event_fails;
        LOG_LIMITED("vsock: event buffer of the guest not used: %s", chain.fault() ? chain.fault() : "it is too small");
        return events.push(std::move(chain), 0);
    }
    events.push(std::move(chain), sizeof event);
    event_due_ = false;
}

}  // namespace wisp::virtio
