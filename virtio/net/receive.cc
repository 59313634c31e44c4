// SPDX-License-Identifier: Apache-2.0
#include "virtio/net/receive.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "virtio/net/header.h"

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

// The tap holds frames, and the host could not hand one over just now: no event will tell of them again.
bool is_shortage(int64_t result) {
    return result == -ENOMEM || result == -ENOBUFS || result == -EINTR;
}

}  // namespace

NetReceiver::NetReceiver(NetInterface& interface, const std::function<void()>& on_ready)
    : interface_(interface),
      rate_limiter_(interface.loop,
                    [this, on_ready] {
                        if (!interface_.queues.serving()) return;
                        ++interface_.counters.rx_event_rate_limiter_count;
                        on_ready();
                    }),
      buffers_(interface, kQueue),
      patience_timer_(interface.loop, [this, on_ready] {
          patience_over_ = true;
          on_ready();
      }) {}

Result<void> NetReceiver::reserve() {
    memory_ = TRY(
        Mapping::anonymous((slots_.size() + 1) * Slot::kRoom, limits::kPageSize, 0, "network frames that are kept"));
    for (size_t i = 0; i < slots_.size(); ++i) slots_[i].memory = memory_.data() + i * Slot::kRoom;
    answer_.memory = memory_.data() + slots_.size() * Slot::kRoom;
    buffers_.reserve();
    parts_.resize(limits::kNetSlices + slots_.size());
    return {};
}

void NetReceiver::activate() {
    mergeable_ = interface_.queues.features() & net_feature(VIRTIO_NET_F_MRG_RXBUF);
    tap_readable_ = false;  // the watch tells
}

bool NetReceiver::has_work() const {
    if (!interface_.queues.serving()) return false;
    const bool answer = interface_.responder.due() || answer_.kept > 0;
    const bool frames = !rate_limiter_.blocked() && (keeps_frames() || tap_readable_);
    if (!answer && !frames) return false;
    return !needs_buffers_ || patience_over_ || queue().has_available();
}

void NetReceiver::serve() {
    interface_.queues.disable_notifications(kQueue);
    while (has_work() && interface_.queues.begin_batch(kQueue) && serve_next()) {
        interface_.queues.publish();
        interface_.loop.expect_answer();
    }
    interface_.queues.publish();  // buffers that were refused
}

// The responder's frames first, then those that are kept, then new ones. False: not now.
bool NetReceiver::serve_next() {
    if (interface_.responder.due() && answer_.kept == 0) take_answer();
    if (answer_.kept > 0) return deliver(answer_);
    if (rate_limiter_.blocked()) return false;
    if (!keeps_frames()) return tap_readable_ && receive_batch();
    Slot& slot = slots_[kept_begin_];
    if (slot.kept > 0 && !deliver(slot)) return false;
    ++kept_begin_;
    return true;
}

bool NetReceiver::arm() {
    bool any = has_work();
    if (needs_buffers_) any |= interface_.queues.enable_notifications(kQueue);
    return any;
}

void NetReceiver::count_received(const Slot& slot, uint64_t size) {
    ++interface_.counters.rx_count;
    if (&slot == &answer_) return;
    ++interface_.counters.rx_packets_count;
    interface_.counters.rx_bytes_count += size - sizeof(NetHeader);
}

void NetReceiver::drop(const char* reason) {
    LOG_LIMITED("%s: frame from tap %s dropped: %s", interface_.name.c_str(), interface_.config.tap.c_str(), reason);
    ++interface_.counters.rx_fails;
}

// ---- frames from the tap ----

bool NetReceiver::receive_batch() {
    const unsigned planned = plan_batch();
    if (planned == 0) return false;
    stop_waiting();
    interface_.tap->receive(std::span(transfers_).first(planned));
    finish_batch(planned);
    return true;
}

// Sets buffers aside for the next frames. Returns for how many: none, where it is better to wait for buffers.
unsigned NetReceiver::plan_batch() {
    size_t next = 0, parts = 0;
    unsigned planned = 0;
    for (; planned < batch_; ++planned) {
        const uint64_t wanted = mergeable_ ? expected_ : 1;
        const auto gathered = buffers_.gather(next, wanted);
        if (gathered != Gathered::kEnough) {
            if (planned > 0 || !wait_for_buffers(gathered, limits::kNetExpectation_ns)) break;
            expected_ = buffers_.capacity();
        }
        Slot& slot = slots_[planned];
        const size_t parts_begin = parts;
        parts = plan_slot(slot, next, wanted, parts);
        next += slot.count;
        const auto used = std::span(parts_).subspan(parts_begin, parts - parts_begin);
        transfers_[planned] = {as_iovecs(used), static_cast<unsigned>(used.size()), 0};
    }
    return planned;
}

// Gives a slot buffers from `first` on, at least one, and adds their segments to the parts. Returns the parts in use.
size_t NetReceiver::plan_slot(Slot& slot, size_t first, uint64_t wanted, size_t parts) {
    const size_t parts_begin = parts;
    slot.first = first;
    slot.capacity = 0;
    size_t next = first;
    for (; next < buffers_.count() && slot.capacity < wanted; ++next) {
        const auto slices = buffers_.slices(next);
        if (parts - parts_begin + slices.size() >= kMaxParts) break;
        std::copy(slices.begin(), slices.end(), parts_.begin() + static_cast<ptrdiff_t>(parts));
        parts += slices.size();
        slot.capacity += buffers_.size(next);
    }
    slot.count = next - first;
    CHECK(slot.count > 0);
    if (slot.capacity < Slot::kRoom)
        parts_[parts++] = GuestSlice(slot.memory + slot.capacity, Slot::kRoom - slot.capacity);
    return parts;
}

void NetReceiver::finish_batch(unsigned planned) {
    const Slot& last = slots_[planned - 1];
    spare_ = last.first + last.count;
    kept_begin_ = kept_end_ = 0;
    unsigned received = 0;
    uint64_t largest = 0;
    bool shortage = false;
    for (unsigned i = 0; i < planned; ++i) {
        const int64_t result = transfers_[i].result;
        if (result > 0) {
            ++received;
            largest = std::max(largest, static_cast<uint64_t>(result));
            finish_frame(slots_[i], static_cast<uint64_t>(result));
        } else if (result != -EAGAIN) {
            shortage |= is_shortage(result);
            ++interface_.counters.tap_read_fails;
            LOG_LIMITED("%s: cannot read from tap %s: %s", interface_.name.c_str(), interface_.config.tap.c_str(),
                        strerrordesc_np(static_cast<int>(-result)));
        }
    }
    // The watch tells of a frame that came behind the last read.
    tap_readable_ = transfers_[planned - 1].result > 0;
    if (shortage) interface_.watch.look_again();
    buffers_.sweep();
    // One more than there were, so that the same call finds out that there are no more.
    batch_ = std::clamp(received == planned ? 2 * planned : received + 1, 2u, limits::kNetReceiveBatch);
    expected_ = std::max({largest, expected_ - expected_ / 8, uint64_t{1}});
}

// A frame has been read into a slot's buffers and, where they were too few, into its memory.
void NetReceiver::finish_frame(Slot& slot, uint64_t size) {
    interface_.queues.charge(kQueue, size);
    slot.kept = 0;
    slot.paid = false;
    if (const char* fault = find_fault(slot, size)) return drop(fault);
    if (keeps_frames()) return keep(slot, size);  // behind those that wait already
    if (!rate_limiter_.take(size)) {
        ++interface_.counters.rx_rate_limiter_throttled;
        return keep(slot, size);
    }
    slot.paid = true;
    const uint64_t inside = std::min(size, slot.capacity);
    if (size > inside && buffers_.gather(spare_, size - inside) != Gathered::kEnough) return keep(slot, size);

    uint16_t used = 0;
    for (uint64_t left = inside; left > 0; ++used) left -= use_buffer(slot.first + used, left);
    std::span<const std::byte> rest(slot.memory + inside, size - inside);
    for (; !rest.empty(); ++used, ++spare_) {
        write_at(buffers_.slices(spare_), 0, rest);
        rest = rest.subspan(use_buffer(spare_, rest.size()));
    }
    write_at(buffers_.slices(slot.first), offsetof(NetHeader, num_buffers), std::as_bytes(std::span(&used, 1)));
    count_received(slot, size);
}

// The driver gets a buffer with up to `size` bytes in it. Returns how many.
uint32_t NetReceiver::use_buffer(size_t index, uint64_t size) {
    const auto written = static_cast<uint32_t>(std::min<uint64_t>(size, buffers_.size(index)));
    buffers_.use(index, written);
    return written;
}

const char* NetReceiver::find_fault(const Slot& slot, uint64_t size) {
    if (size > limits::kNetMaxFrame) return "longer than any frame should be";
    if (size < sizeof(NetHeader) + ETH_HLEN) return "too short for its headers";
    NetHeader header;
    read_front(buffers_.slices(slot.first), std::as_writable_bytes(std::span(&header, 1)));
    if (!can_receive(header, interface_.queues.features())) return "it leaves work to a driver that cannot do it";
    if (!mergeable_ && size > slot.capacity) return "longer than the guest's buffer";
    return nullptr;
}

// ---- frames in memory of ours ----

// The buffers stay in hand.
void NetReceiver::keep(Slot& slot, uint64_t size) {
    std::span<std::byte> to(slot.memory, std::min(size, slot.capacity));
    for (size_t i = slot.first; !to.empty(); ++i) {
        const size_t part = std::min<size_t>(to.size(), buffers_.size(i));
        read_front(buffers_.slices(i), to.first(part));
        to = to.subspan(part);
    }
    slot.kept = size;
    const auto index = static_cast<size_t>(&slot - slots_.data());
    if (!keeps_frames()) kept_begin_ = index;
    kept_end_ = index + 1;
}

void NetReceiver::take_answer() {
    std::span<std::byte> room(answer_.memory, Slot::kRoom);
    const size_t size = interface_.responder.transmit(room.subspan(sizeof(NetHeader)));
    if (size == 0) return;
    std::fill_n(room.begin(), sizeof(NetHeader), std::byte{0});
    answer_.kept = sizeof(NetHeader) + size;
    answer_.paid = true;  // limits are for the tap
}

// Gives a kept frame to the driver, or drops it where the driver has no buffers for it. False: not now.
bool NetReceiver::deliver(Slot& slot) {
    const uint64_t wanted = mergeable_ ? slot.kept : 1;
    const auto gathered = buffers_.gather(0, wanted);
    bool fits = gathered == Gathered::kEnough;
    if (!fits && !wait_for_buffers(gathered, limits::kNetPatience_ns)) return false;
    if (!mergeable_) fits = fits && buffers_.size(0) >= slot.kept;
    if (fits && !slot.paid && !rate_limiter_.take(slot.kept)) {
        ++interface_.counters.rx_rate_limiter_throttled;
        return false;
    }
    interface_.queues.charge(kQueue, slot.kept);
    stop_waiting();
    const uint64_t size = std::exchange(slot.kept, 0);
    if (!fits) {
        drop("longer than all buffers of the guest");
        return true;
    }
    count_received(slot, size);
    std::span<const std::byte> rest(slot.memory, size);
    uint16_t used = 0;
    for (; !rest.empty(); ++used) {
        write_at(buffers_.slices(used), 0, rest);
        rest = rest.subspan(use_buffer(used, rest.size()));
    }
    write_at(buffers_.slices(0), offsetof(NetHeader, num_buffers), std::as_bytes(std::span(&used, 1)));
    buffers_.sweep();
    return true;
}

// ---- waiting for buffers ----

void NetReceiver::stop_waiting() {
    patience_timer_.cancel();
    if (std::exchange(needs_buffers_, false)) interface_.watch_tap();
}

// There are not enough buffers. True: go on with those in hand, which are at least one. Without any buffer frames wait
// until the guest adds some; with some they wait for so long, because the guest may never add more.
bool NetReceiver::wait_for_buffers(Gathered gathered, uint64_t patience_ns) {
    const bool has_some = buffers_.count() > 0;
    const bool patience_over = std::exchange(patience_over_, false);
    if (has_some && (patience_over || gathered == Gathered::kFull)) return true;
    if (!std::exchange(needs_buffers_, true)) ++interface_.counters.no_rx_avail_buffer;
    if (!has_some)
        patience_timer_.cancel();
    else if (!patience_timer_.armed())
        patience_timer_.arm(patience_ns);
    return false;
}

// ---- pause and reset ----

void NetReceiver::finish() {
    buffers_.give_back();
    needs_buffers_ = patience_over_ = false;
    patience_timer_.cancel();
}

void NetReceiver::resume() {
    tap_readable_ = true;  // the tap was not watched
    interface_.responder.start();
}

void NetReceiver::abandon() {
    buffers_.abandon();
    for (Slot& slot : slots_) slot.kept = 0;
    kept_begin_ = kept_end_ = 0;
    answer_.kept = 0;
    tap_readable_ = needs_buffers_ = patience_over_ = false;
    patience_timer_.cancel();
}

}  // namespace wisp::virtio
