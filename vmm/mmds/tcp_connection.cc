// SPDX-License-Identifier: Apache-2.0
#include "vmm/mmds/tcp_connection.h"

#include <algorithm>

namespace wisp::mmds {

namespace {

constexpr uint16_t kDefaultMss = 536;  // RFC 9293, section 3.7.1
constexpr uint16_t kMinMss = 100;      // what is announced below this is taken as this
constexpr uint16_t kMaxMss = 1460;

}  // namespace

TcpConnection::TcpConnection(const Segment& syn, uint32_t initial_sequence, uint64_t now_ms)
    : initial_(initial_sequence),
      expected_(syn.sequence + 1),
      first_(initial_sequence + 1),
      next_(initial_sequence + 1),
      window_(syn.window),
      mss_(std::clamp(syn.mss ? syn.mss : kDefaultMss, kMinMss, kMaxMss)),
      last_active_ms_(now_ms) {}

void TcpConnection::receive(const Segment& segment, Service& service, uint64_t now_ms) {
    if (segment.has(tcp::kRst)) {
        // RFC 5961: only a reset at the expected place is believed.
        over_ |= segment.sequence == expected_;
        return;
    }
    last_active_ms_ = now_ms;
    if (segment.has(tcp::kSyn)) {
        (established_ ? ack_due_ : syn_due_) = true;  // our answer was lost, or this is not ours
        return;
    }
    if (!segment.has(tcp::kAck)) return;
    take_acknowledgement(segment, now_ms);
    if (!established_ || over_) return;
    take_data(segment);
    serve(service, now_ms);
}

void TcpConnection::take_acknowledgement(const Segment& segment, uint64_t now_ms) {
    const uint32_t end = first_ + static_cast<uint32_t>(output_.size()) + fin_sent_;
    if (after(segment.acknowledged, end) || after(initial_ + 1, segment.acknowledged)) {
        ack_due_ = true;  // of something that was never sent
        return;
    }
    if (!established_) {
        established_ = true;
        syn_due_ = false;
        retries_ = 0;
        retransmit_at_ms_ = UINT64_MAX;
    }
    if (after(first_, segment.acknowledged)) return;
    window_ = segment.window;
    const uint32_t count = segment.acknowledged - first_;
    if (count == 0) return;
    output_.erase(0, count);
    first_ = segment.acknowledged;
    if (after(first_, next_)) next_ = first_;
    retries_ = 0;
    retransmit_at_ms_ = all_sent() && output_.empty() ? UINT64_MAX : now_ms + kRetransmit_ms;
    over_ = fin_sent_ && first_ == end;
}

void TcpConnection::take_data(const Segment& segment) {
    std::string_view data = segment.data;
    if (data.empty() && !segment.has(tcp::kFin)) {
        ack_due_ |= segment.sequence != expected_;  // a probe
        return;
    }
    ack_due_ = true;
    // The front of what we have already may come again; what comes early is not kept.
    const uint32_t known = expected_ - segment.sequence;
    if (after(segment.sequence, expected_) || known > data.size() || guest_done_) return;
    data.remove_prefix(known);
    const size_t taken = std::min(data.size(), kReceiveBuffer - input_.size());
    input_ += data.substr(0, taken);
    expected_ += static_cast<uint32_t>(taken);
    if (segment.has(tcp::kFin) && taken == data.size()) {
        ++expected_;
        guest_done_ = true;
    }
}

/// Answers the next request, once the answer before it has arrived.
void TcpConnection::serve(Service& service, uint64_t now_ms) {
    if (!output_.empty() || fin_due_) return;
    if (const size_t length = Service::request_length(input_)) {
        output_ = service.answer(std::string_view(input_).substr(0, length), now_ms);
        input_.erase(0, length);
    } else if (input_.size() == kReceiveBuffer) {
        reset_due_ = true;  // it will never be whole
    } else if (guest_done_) {
        fin_due_ = true;
    }
}

void TcpConnection::fill(Segment& segment, uint8_t flags) const {
    segment = {};
    segment.sequence = next_;
    segment.acknowledged = expected_;
    segment.window = static_cast<uint16_t>(kReceiveBuffer - input_.size());
    segment.flags = flags;
}

bool TcpConnection::transmit(Segment& segment, size_t max_data, uint64_t now_ms) {
    if (over_) return false;
    if (now_ms >= retransmit_at_ms_) {
        if (++retries_ > kMaxRetries) reset_due_ = true;
        next_ = first_;
        fin_sent_ = false;
        syn_due_ = !established_;
        retransmit_at_ms_ = UINT64_MAX;
        window_ = std::max(window_, 1u);  // one byte asks a closed window whether it is open again
    }
    if (reset_due_) {
        fill(segment, tcp::kRst | tcp::kAck);
        over_ = true;
        return true;
    }
    if (!established_) {
        if (!syn_due_) return false;
        fill(segment, tcp::kSyn | tcp::kAck);
        segment.sequence = initial_;
        segment.mss = kMaxMss;
        syn_due_ = ack_due_ = false;
        retransmit_at_ms_ = now_ms + kRetransmit_ms;
        return true;
    }
    const uint32_t sent = next_ - first_;
    const size_t left = sent <= output_.size() ? output_.size() - sent : 0;
    const size_t count = std::min({left, size_t{window_ > sent ? window_ - sent : 0}, size_t{mss_}, max_data});
    const bool fin = fin_due_ && !fin_sent_ && count == left;
    if (left > 0 && retransmit_at_ms_ == UINT64_MAX) retransmit_at_ms_ = now_ms + kRetransmit_ms;
    if (count == 0 && !fin && !ack_due_) return false;
    fill(segment,
         static_cast<uint8_t>(tcp::kAck | (fin ? tcp::kFin : 0) | (count > 0 && count == left ? tcp::kPsh : 0)));
    segment.data = std::string_view(output_).substr(std::min<size_t>(sent, output_.size()), count);
    next_ += static_cast<uint32_t>(count) + fin;
    fin_sent_ |= fin;
    ack_due_ = false;
    if (fin && retransmit_at_ms_ == UINT64_MAX) retransmit_at_ms_ = now_ms + kRetransmit_ms;
    return true;
}

uint64_t TcpConnection::deadline_ms() const {
    if (over_) return UINT64_MAX;
    const uint32_t sent = next_ - first_;
    const bool data = established_ && sent < output_.size() && window_ > sent;
    const bool fin = established_ && fin_due_ && !fin_sent_ && sent >= output_.size();
    if (reset_due_ || ack_due_ || (syn_due_ && !established_) || data || fin) return 0;
    return retransmit_at_ms_;
}

void TcpConnection::save(RecordWriter& writer) const {
    writer.u32(next_);
    writer.u32(expected_);
}

Result<TcpConnection> TcpConnection::restore(RecordReader& reader, uint64_t now_ms) {
    const uint32_t next = TRY(reader.u32("next"));
    const uint32_t expected = TRY(reader.u32("expected"));
    Segment syn;
    syn.sequence = expected - 1;
    TcpConnection connection(syn, next, now_ms);
    connection.reset_due_ = true;
    return connection;
}

}  // namespace wisp::mmds
