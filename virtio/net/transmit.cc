// SPDX-License-Identifier: Apache-2.0
#include "virtio/net/transmit.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "virtio/cursor.h"

namespace wisp::virtio {

namespace {

// Copies the first bytes, which stay where they are.
void peek(std::span<const GuestSlice> slices, std::span<std::byte> to) {
    for (const GuestSlice& slice : slices) to = to.subspan(slice.copy_to(to));
}

}  // namespace

NetTransmitter::NetTransmitter(NetInterface& interface, std::function<void()> on_ready)
    : interface_(interface),
      rate_limiter_(interface.loop,
                    [this, on_ready = std::move(on_ready)] {
                        if (!interface_.queues.serving()) return;
                        ++interface_.counters.tx_rate_limiter_event_count;
                        on_ready();
                    }),
      slices_(limits::kNetSlices) {}

void NetTransmitter::serve() {
    interface_.queues.disable_notifications(kQueue);
    bool any = false;
    while (has_work() && interface_.queues.begin_batch(kQueue)) {
        const bool took = take_batch();
        send_batch();
        if (!took) break;
        any = true;
    }
    if (any && has_work()) ++interface_.counters.tx_remaining_reqs_count;
}

// False where there was nothing to take.
bool NetTransmitter::take_batch() {
    bool any = false;
    while (count_ < frames_.size() && interface_.queues.batch_has_room(kQueue)) {
        // A slice in front of the chain's own, for the head.
        const size_t begin = slices_used_ + 1;
        if (slices_.size() - begin < limits::kMaxQueueSize) break;
        Chain& chain = frames_[count_].chain;
        if (queue().pop(chain, std::span(slices_).subspan(begin)) != Queue::Pop::kChain) break;
        if (take_frame(chain, begin) == Taken::kNotNow) {
            queue().unpop(std::move(chain));
            break;
        }
        any = true;
        ++interface_.counters.tx_count;
    }
    return any;
}

// Puts a frame into the batch, or is done with it at once.
NetTransmitter::Taken NetTransmitter::take_frame(Chain& chain, size_t begin) {
    Frame& frame = frames_[count_];
    const auto refuse = [&](const char* reason) {
        drop(chain, reason);
        return Taken::kYes;
    };
    const uint64_t size = total_size(chain.readable());
    interface_.queues.charge(kQueue, std::min<uint64_t>(size, limits::kNetMaxFrame));
    if (chain.fault()) return refuse(chain.fault());
    if (!chain.writable().empty()) return refuse("writable descriptors");
    if (size < sizeof(NetHeader) + ETH_HLEN) return refuse("too short for its headers");
    if (size > limits::kNetMaxFrame) return refuse("too long");

    Reader reader(chain.readable());
    frame.head.header = *reader.read<NetHeader>();
    frame.size = size - sizeof(NetHeader);
    if (const char* fault = check_sent_header(frame.head.header, frame.size, interface_.queues.features()))
        return refuse(fault);

    // The tap gets the bytes that the responder looked at, not the guest's, which may change: a frame that is for the
    // responder never leaves.
    size_t seen = 0;
    if (interface_.responder.exists()) {
        seen = reader.read_some(frame.head.start);
        if (interface_.responder.wants(std::span(frame.head.start).first(seen))) {
            answer(reader.rest(), seen);
            queue().push(std::move(chain), 0);
            return Taken::kYes;
        }
    }
    if (!rate_limiter_.take(size)) {
        ++interface_.counters.tx_rate_limiter_throttled;
        return Taken::kNotNow;
    }
    if (const auto& mac = interface_.config.mac) {
        std::array<std::byte, 2 * ETH_ALEN> addresses;
        if (seen)
            std::copy_n(frame.head.start.begin(), addresses.size(), addresses.begin());
        else
            peek(reader.rest(), addresses);
        if (memcmp(&addresses[ETH_ALEN], mac->data(), ETH_ALEN) != 0) ++interface_.counters.tx_spoofed_mac_count;
    }
    const std::span<GuestSlice> rest = reader.rest();
    GuestSlice* const parts = rest.data() - 1;
    *parts = GuestSlice(&frame.head, sizeof(NetHeader) + seen);
    frame.transfer = {as_iovecs({parts, rest.size() + 1}), static_cast<unsigned>(rest.size() + 1), 0};
    slices_used_ = begin + chain.readable().size();
    ++count_;
    return Taken::kYes;
}

// The responder gets the whole frame, in memory of ours.
void NetTransmitter::answer(std::span<GuestSlice> rest, size_t seen) {
    Frame& frame = frames_[count_];
    copy_.resize(frame.size);
    std::copy_n(frame.head.start.begin(), seen, copy_.begin());
    Reader(rest).read_some(std::span(copy_).subspan(seen));
    interface_.responder.receive(copy_);
}

void NetTransmitter::drop(Chain& chain, const char* reason) {
    LOG_LIMITED("%s: frame dropped: %s", interface_.name.c_str(), reason);
    ++interface_.counters.tx_malformed_frames;
    ++interface_.counters.tx_fails;
    queue().push(std::move(chain), 0);
}

// Sends the frames in hand. Those that the tap does not take now stay in hand.
void NetTransmitter::send_batch() {
    std::array<FrameTransfer, limits::kNetSendBatch> transfers;
    std::array<Frame*, limits::kNetSendBatch> frames;
    unsigned count = 0;
    for (unsigned i = 0; i < count_; ++i) {
        if (!frames_[i].chain.owned()) continue;
        frames[count] = &frames_[i];
        transfers[count++] = frames_[i].transfer;
    }
    blocked_ = false;
    if (count > 0) {
        const uint64_t start_ns = monotonic_ns();
        interface_.tap->send(std::span(transfers).first(count));
        interface_.counters.tap_write_agg.record(monotonic_ns() - start_ns);
        for (unsigned i = 0; i < count; ++i) finish_frame(*frames[i], transfers[i].result);
    }
    if (!blocked_) forget_batch();
    interface_.queues.publish();
}

void NetTransmitter::finish_frame(Frame& frame, int64_t result) {
    NetCounters& counters = interface_.counters;
    if (result == -EAGAIN) {
        if (!std::exchange(blocked_, true)) interface_.watch_tap();
        return;
    }
    if (result < 0) {
        // EINVAL is the kernel's word on a header that does not fit its frame.
        ++(result == -EINVAL ? counters.tx_malformed_frames : counters.tap_write_fails);
        ++counters.tx_fails;
        LOG_LIMITED("%s: frame dropped: tap %s: %s", interface_.name.c_str(), interface_.config.tap.c_str(),
                    strerrordesc_np(static_cast<int>(-result)));
    } else {
        ++counters.tx_packets_count;
        counters.tx_bytes_count += frame.size;
    }
    queue().push(std::move(frame.chain), 0);
}

void NetTransmitter::on_tap_writable() {
    if (blocked_ && interface_.queues.serving()) send_batch();
}

void NetTransmitter::finish() {
    if (!blocked_) return;
    send_batch();
    for (Frame& frame : std::span(frames_).first(count_)) {
        if (!frame.chain.owned()) continue;
        ++interface_.counters.tx_fails;
        queue().push(std::move(frame.chain), 0);
    }
    forget_batch();
}

void NetTransmitter::abandon() {
    for (Frame& frame : frames_) frame.chain.abandon();
    forget_batch();
}

void NetTransmitter::forget_batch() {
    count_ = 0;
    slices_used_ = 0;
    blocked_ = false;
}

}  // namespace wisp::virtio
