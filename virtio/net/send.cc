// SPDX-License-Identifier: Apache-2.0
//
// What becomes of a frame of the guest: taken from its queue, its header checked, answered by the responder or sent to
// the tap, returned.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "virtio/cursor.h"
#include "virtio/net/device.h"
#include "virtio/net/frames.h"

namespace wisp::virtio {

namespace {

// Copies the first bytes, which stay where they are.
void peek(std::span<const GuestSlice> slices, std::span<std::byte> to) {
    for (const GuestSlice& slice : slices) to = to.subspan(slice.copy_to(to));
}

}  // namespace

bool Net::may_send() const {
    return queues_.serving() && !sender_->blocked && !send_limiter_.blocked();
}

// Serves the queue until it is empty, or until something else comes back to it: the tap, the rate limiter, or the
// loop's next look.
void Net::send_frames() {
    queues_.disable_notifications(kSendQueue);
    bool any = false;
    while (may_send() && send_queue().has_available() && queues_.begin_batch(kSendQueue)) {
        const bool took = take_frames();
        flush_frames();
        if (!took) break;
        any = true;
    }
    if (any && may_send() && send_queue().has_available()) ++counters_.tx_remaining_reqs_count;
    if (any && may_receive()) receive_frames();  // the responder may have something to say to that
}

// One batch. False where there was nothing to take.
bool Net::take_frames() {
    Sender& sender = *sender_;
    bool any = false;
    while (sender.count < sender.frames.size() && queues_.batch_has_room(kSendQueue)) {
        // A slice in front of the chain's own, for the head.
        const size_t begin = sender.slices_used + 1;
        if (sender.slices.size() - begin < limits::kMaxQueueSize) break;
        Chain& chain = sender.frames[sender.count].chain;
        const Queue::Pop popped = send_queue().pop(chain, std::span(sender.slices).subspan(begin));
        if (popped == Queue::Pop::kBroken) set_broken(send_queue().fault());
        if (popped != Queue::Pop::kChain) break;
        if (take_frame(chain, begin) == Taken::kNotNow) {
            send_queue().unpop(std::move(chain));
            break;
        }
        any = true;
        ++counters_.tx_count;
    }
    return any;
}

// Puts a frame into the batch, or is done with it at once.
Net::Taken Net::take_frame(Chain& chain, size_t begin) {
    Sender& sender = *sender_;
    SentFrame& frame = sender.frames[sender.count];
    const auto drop = [&](const char* reason) {
        drop_sent(chain, reason);
        return Taken::kYes;
    };
    if (chain.fault()) return drop(chain.fault());
    if (!chain.writable().empty()) return drop("writable descriptors");
    const uint64_t size = total_size(chain.readable());
    queues_.charge(kSendQueue, std::min<uint64_t>(size, limits::kNetMaxFrame));
    if (size < sizeof(NetHeader) + ETH_HLEN) return drop("too short for its headers");
    if (size > limits::kNetMaxFrame) return drop("too long");

    Reader reader(chain.readable());
    frame.head.header = *reader.read<NetHeader>();
    frame.size = size - sizeof(NetHeader);
    if (const char* fault = check_sent_header(frame.head.header, frame.size, queues_.features())) return drop(fault);

    // What was looked at is what is sent, whatever the guest makes of its own copy: a frame that is for the responder
    // never leaves.
    size_t seen = 0;
    if (config_.responder) {
        seen = reader.read_some(frame.head.start);
        if (config_.responder->wants(std::span(frame.head.start).first(seen))) {
            respond(reader.rest(), seen);
            send_queue().push(std::move(chain), 0);
            return Taken::kYes;
        }
    }
    if (!send_limiter_.take(size)) {
        ++counters_.tx_rate_limiter_throttled;
        return Taken::kNotNow;
    }
    if (config_.mac) {
        std::array<std::byte, 2 * ETH_ALEN> addresses;
        if (seen)
            std::copy_n(frame.head.start.begin(), addresses.size(), addresses.begin());
        else
            peek(reader.rest(), addresses);
        if (memcmp(&addresses[ETH_ALEN], config_.mac->data(), ETH_ALEN) != 0) ++counters_.tx_spoofed_mac_count;
    }
    const std::span<GuestSlice> rest = reader.rest();
    GuestSlice* const parts = rest.data() - 1;
    *parts = GuestSlice(&frame.head, sizeof(NetHeader) + seen);
    frame.transfer = {as_iovecs({parts, rest.size() + 1}), static_cast<unsigned>(rest.size() + 1), 0};
    sender.slices_used = begin + chain.readable().size();
    ++sender.count;
    return Taken::kYes;
}

// The responder gets the whole frame, in memory of ours.
void Net::respond(std::span<GuestSlice> rest, size_t seen) {
    SentFrame& frame = sender_->frames[sender_->count];
    std::vector<std::byte>& copy = sender_->copy;
    copy.resize(frame.size);
    std::copy_n(frame.head.start.begin(), seen, copy.begin());
    Reader(rest).read_some(std::span(copy).subspan(seen));
    config_.responder->receive(copy, monotonic_ns());
    arm_responder();
}

void Net::drop_sent(Chain& chain, const char* reason) {
    LOG_LIMITED("%s: frame dropped: %s", name_.c_str(), reason);
    ++counters_.tx_malformed_frames;
    ++counters_.tx_fails;
    send_queue().push(std::move(chain), 0);
}

// Sends what is in hand. What the tap does not take now stays there.
void Net::flush_frames() {
    Sender& sender = *sender_;
    std::array<FrameTransfer, limits::kNetSendBatch> transfers;
    std::array<SentFrame*, limits::kNetSendBatch> frames;
    unsigned count = 0;
    for (unsigned i = 0; i < sender.count; ++i) {
        if (!sender.frames[i].chain.owned()) continue;
        frames[count] = &sender.frames[i];
        transfers[count++] = sender.frames[i].transfer;
    }
    sender.blocked = false;
    if (count > 0) {
        const uint64_t start_ns = monotonic_ns();
        io_->send(std::span(transfers).first(count));
        counters_.tap_write_agg.record(monotonic_ns() - start_ns);
        for (unsigned i = 0; i < count; ++i) finish_sent(*frames[i], transfers[i].result);
    }
    if (!sender.blocked) {
        sender.count = 0;
        sender.slices_used = 0;
    }
    publish();
}

void Net::finish_sent(SentFrame& frame, int64_t result) {
    if (result == -EAGAIN) {
        if (!std::exchange(sender_->blocked, true)) watch_tap();
        return;
    }
    if (result < 0) {
        // EINVAL is the kernel's word on a header that does not fit its frame.
        ++(result == -EINVAL ? counters_.tx_malformed_frames : counters_.tap_write_fails);
        ++counters_.tx_fails;
        LOG_LIMITED("%s: frame dropped: tap %s: %s", name_.c_str(), config_.tap.c_str(),
                    strerrordesc_np(static_cast<int>(-result)));
    } else {
        ++counters_.tx_packets_count;
        counters_.tx_bytes_count += frame.size;
    }
    send_queue().push(std::move(frame.chain), 0);
}

// For a pause: a last try, then they are dropped.
void Net::let_go_of_sent() {
    if (!sender_->blocked) return;
    flush_frames();
    for (SentFrame& frame : std::span(sender_->frames).first(sender_->count)) {
        if (!frame.chain.owned()) continue;
        ++counters_.tx_fails;
        send_queue().push(std::move(frame.chain), 0);
    }
    sender_->count = 0;
    sender_->slices_used = 0;
    sender_->blocked = false;
}

}  // namespace wisp::virtio
