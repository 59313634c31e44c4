// SPDX-License-Identifier: Apache-2.0
//
// What becomes of a frame for the guest: read from the tap straight into the guest's buffers, several at a time, or
// made by the responder.
//
// How long a frame is shows only when it is there. So each read gets buffers for a frame as those before it were, and
// behind them memory of ours (its slot) for the rest: that is then copied into more buffers. Where there are none, the
// whole frame waits in its slot, and nothing is read meanwhile.
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

constexpr size_t kMaxParts = 1024;  // of one read: IOV_MAX

// Copies from, or into, the front of slices, which stay as they are.
void read_front(std::span<const WritableSlice> slices, std::span<std::byte> to) {
    for (const GuestSlice& slice : slices) to = to.subspan(slice.copy_to(to));
}
void write_at(std::span<const WritableSlice> slices, size_t offset, std::span<const std::byte> from) {
    for (const WritableSlice& slice : slices) {
        if (from.empty()) return;
        from = from.subspan(slice.part(offset).copy_from(from));
        offset -= std::min(offset, slice.size());
    }
}

}  // namespace

bool Net::may_receive() const {
    if (!active()) return false;
    const Receiver& receiver = *receiver_;
    const bool answer = answer_due_ || receiver.slots[Receiver::kAnswer].kept > 0;
    const bool frames = !receive_limiter_.blocked() && (receiver.keeps() || tap_readable_);
    if (!answer && !frames) return false;
    return !needs_buffers_ || receiver.patience_over || activation_->queues[kReceiveQueue].has_available();
}

void Net::receive_frames() {
    Receiver& receiver = *receiver_;
    if (receiver.budget_turn != loop_.turn_number()) {
        receiver.budget_turn = loop_.turn_number();
        receiver.budget = limits::kNetServeBudget;
    }
    if (std::exchange(receiver.armed, false)) receive_queue().disable_notifications();
    while (may_receive() && receiver.budget > 0 && receive_next()) {
        publish();
        loop_.expect_answer();
    }
    if (const char* fault = receive_queue().fault()) set_broken(fault);
}

// The responder's frames first, then those that are kept, then new ones. False: not now.
bool Net::receive_next() {
    Receiver& receiver = *receiver_;
    Slot& answer = receiver.slots[Receiver::kAnswer];
    if (answer_due_ && answer.kept == 0) take_answer();
    if (answer.kept > 0) return deliver(answer);
    if (receive_limiter_.blocked()) return false;
    if (!receiver.keeps()) return tap_readable_ && receive_batch();
    Slot& slot = receiver.slots[receiver.kept_begin];
    if (slot.kept > 0 && !deliver(slot)) return false;
    ++receiver.kept_begin;
    return true;
}

void Net::count_received(const Slot& slot, uint64_t size) {
    ++counters_.rx_count;
    if (&slot == &receiver_->slots[Receiver::kAnswer]) return;
    ++counters_.rx_packets_count;
    counters_.rx_bytes_count += size - sizeof(NetHeader);
}

void Net::drop_received(const char* reason) {
    LOG_LIMITED("%s: frame from tap %s dropped: %s", name_.c_str(), config_.tap.c_str(), reason);
    ++counters_.rx_fails;
}

// ---- frames from the tap ----

bool Net::receive_batch() {
    Receiver& receiver = *receiver_;
    const unsigned planned = plan_batch();
    if (planned == 0) return false;
    buffers_suffice();
    io_->receive(std::span(receiver.transfers).first(planned));
    finish_batch(planned);
    return true;
}

// Sets buffers aside for the next frames. Returns for how many: none, where it is better to wait for buffers.
unsigned Net::plan_batch() {
    Receiver& receiver = *receiver_;
    ReceiveBuffers& buffers = receiver.buffers;
    size_t next = 0, parts = 0;
    unsigned planned = 0;
    for (; planned < receiver.batch; ++planned) {
        Slot& slot = receiver.slots[planned];
        const uint64_t wanted = receiver.merge ? receiver.expected : 1;
        const bool enough = buffers.gather(receive_queue(), next, wanted, name_.c_str(), counters_.rx_fails);
        if (!enough && (planned > 0 || !wait_for_buffers(limits::kNetExpectation_ns))) break;
        if (!enough) receiver.expected = buffers.capacity();
        slot.first = next;
        slot.capacity = 0;
        const size_t parts_begin = parts;
        for (; next < buffers.count() && slot.capacity < wanted; ++next) {
            const auto slices = buffers.slices(next);
            if (parts - parts_begin + slices.size() >= kMaxParts) break;
            std::copy(slices.begin(), slices.end(), receiver.parts.begin() + static_cast<ptrdiff_t>(parts));
            parts += slices.size();
            slot.capacity += buffers.size(next);
        }
        slot.count = next - slot.first;
        if (slot.capacity < Slot::kRoom)
            receiver.parts[parts++] = GuestSlice(slot.memory + slot.capacity, Slot::kRoom - slot.capacity);
        const auto used = std::span(receiver.parts).subspan(parts_begin, parts - parts_begin);
        receiver.transfers[planned] = {as_iovecs(used), static_cast<unsigned>(used.size()), 0};
    }
    return planned;
}

void Net::finish_batch(unsigned planned) {
    Receiver& receiver = *receiver_;
    const Slot& last = receiver.slots[planned - 1];
    receiver.spare = last.first + last.count;
    receiver.kept_begin = receiver.kept_end = 0;
    unsigned received = 0;
    uint64_t largest = 0;
    for (unsigned i = 0; i < planned; ++i) {
        const int64_t result = receiver.transfers[i].result;
        if (result > 0) {
            ++received;
            largest = std::max(largest, static_cast<uint64_t>(result));
            finish_frame(receiver.slots[i], static_cast<uint64_t>(result));
        } else if (result != -EAGAIN) {
            ++counters_.tap_read_fails;
            LOG_LIMITED("%s: cannot read from tap %s: %s", name_.c_str(), config_.tap.c_str(),
                        strerrordesc_np(static_cast<int>(-result)));
        }
    }
    // One that came behind the last read is told of by the loop.
    tap_readable_ = receiver.transfers[planned - 1].result > 0;
    receiver.buffers.sweep();
    // One more than there were, so that the same call finds out that there are no more.
    receiver.batch = std::clamp(received == planned ? 2 * planned : received + 1, 2u, limits::kNetReceiveBatch);
    receiver.expected = std::max({largest, receiver.expected - receiver.expected / 8, uint64_t{1}});
}

// A frame has been read into a slot's buffers and, where they were too few, into its memory.
void Net::finish_frame(Slot& slot, uint64_t size) {
    Receiver& receiver = *receiver_;
    ReceiveBuffers& buffers = receiver.buffers;
    if (receiver.budget > 0) --receiver.budget;
    slot.kept = 0;
    slot.paid = false;
    if (const char* fault = find_fault(slot, size)) return drop_received(fault);
    if (receiver.keeps()) return keep(slot, size);  // behind those that wait already
    if (!receive_limiter_.take(size)) {
        ++counters_.rx_rate_limiter_throttled;
        return keep(slot, size);
    }
    slot.paid = true;
    const uint64_t inside = std::min(size, slot.capacity);
    if (size > inside &&
        !buffers.gather(receive_queue(), receiver.spare, size - inside, name_.c_str(), counters_.rx_fails))
        return keep(slot, size);

    uint16_t used = 0;
    for (uint64_t left = inside; left > 0; ++used) left -= use_buffer(slot.first + used, left);
    std::span<const std::byte> rest(slot.memory + inside, size - inside);
    for (; !rest.empty(); ++used, ++receiver.spare) {
        write_at(buffers.slices(receiver.spare), 0, rest);
        rest = rest.subspan(use_buffer(receiver.spare, rest.size()));
    }
    write_at(buffers.slices(slot.first), offsetof(NetHeader, num_buffers), std::as_bytes(std::span(&used, 1)));
    count_received(slot, size);
}

// The driver gets a buffer with up to `size` bytes in it. Returns how many.
uint32_t Net::use_buffer(size_t index, uint64_t size) {
    const auto written = static_cast<uint32_t>(std::min<uint64_t>(size, receiver_->buffers.size(index)));
    receiver_->buffers.use(receive_queue(), index, written);
    return written;
}

const char* Net::find_fault(const Slot& slot, uint64_t size) {
    if (size > limits::kNetMaxFrame) return "longer than any frame should be";
    if (size < sizeof(NetHeader) + ETH_HLEN) return "too short for its headers";
    NetHeader header;
    read_front(receiver_->buffers.slices(slot.first), std::as_writable_bytes(std::span(&header, 1)));
    if (!can_receive(header, activation_->features)) return "it leaves work to a driver that cannot do it";
    if (!receiver_->merge && size > slot.capacity) return "longer than the guest's buffer";
    return nullptr;
}

// ---- frames in memory of ours ----

// The buffers stay in hand.
void Net::keep(Slot& slot, uint64_t size) {
    Receiver& receiver = *receiver_;
    std::span<std::byte> to(slot.memory, std::min(size, slot.capacity));
    for (size_t i = slot.first; !to.empty(); ++i) {
        const size_t part = std::min<size_t>(to.size(), receiver.buffers.size(i));
        read_front(receiver.buffers.slices(i), to.first(part));
        to = to.subspan(part);
    }
    slot.kept = size;
    const auto index = static_cast<size_t>(&slot - receiver.slots.data());
    if (!receiver.keeps()) receiver.kept_begin = index;
    receiver.kept_end = index + 1;
}

void Net::take_answer() {
    Slot& slot = receiver_->slots[Receiver::kAnswer];
    std::span<std::byte> room(slot.memory, Slot::kRoom);
    const size_t size = config_.responder->transmit(room.subspan(sizeof(NetHeader)), monotonic_ns());
    arm_responder();
    if (size == 0) {
        answer_due_ = false;
        return;
    }
    std::fill_n(room.begin(), sizeof(NetHeader), std::byte{0});
    slot.kept = sizeof(NetHeader) + size;
    slot.paid = true;  // limits are for the tap
}

// Gives a kept frame to the driver, or drops it where the driver has no buffers for it. False: not now.
bool Net::deliver(Slot& slot) {
    Receiver& receiver = *receiver_;
    ReceiveBuffers& buffers = receiver.buffers;
    const uint64_t wanted = receiver.merge ? slot.kept : 1;
    bool fits = buffers.gather(receive_queue(), 0, wanted, name_.c_str(), counters_.rx_fails);
    if (!fits && !wait_for_buffers(limits::kNetPatience_ns)) return false;
    if (!receiver.merge) fits = fits && buffers.size(0) >= slot.kept;
    if (fits && !slot.paid && !receive_limiter_.take(slot.kept)) {
        ++counters_.rx_rate_limiter_throttled;
        return false;
    }
    if (receiver.budget > 0) --receiver.budget;
    buffers_suffice();
    const uint64_t size = std::exchange(slot.kept, 0);
    if (!fits) {
        drop_received("longer than all buffers of the guest");
        return true;
    }
    count_received(slot, size);
    std::span<const std::byte> rest(slot.memory, size);
    uint16_t used = 0;
    for (; !rest.empty(); ++used) {
        write_at(buffers.slices(used), 0, rest);
        rest = rest.subspan(use_buffer(used, rest.size()));
    }
    write_at(buffers.slices(0), offsetof(NetHeader, num_buffers), std::as_bytes(std::span(&used, 1)));
    buffers.sweep();
    return true;
}

void Net::buffers_suffice() {
    patience_timer_.cancel();
    if (std::exchange(needs_buffers_, false)) watch_tap();
}

// There are not enough buffers. True: go on nevertheless. Where the guest has none at all, frames wait for as long as
// it takes; where it has some, perhaps it never has more.
bool Net::wait_for_buffers(uint64_t patience_ns) {
    Receiver& receiver = *receiver_;
    if (std::exchange(receiver.patience_over, false) && receiver.buffers.count() > 0) return true;
    if (receive_queue().has_available()) return true;  // it has more, but in smaller pieces than we take in hand
    if (!std::exchange(needs_buffers_, true)) ++counters_.no_rx_avail_buffer;
    if (receiver.buffers.count() == 0)
        patience_timer_.cancel();
    else if (!patience_timer_.armed())
        patience_timer_.arm(patience_ns);
    return false;
}

void Net::on_patience_over() {
    receiver_->patience_over = true;
    serve();
}

}  // namespace wisp::virtio
