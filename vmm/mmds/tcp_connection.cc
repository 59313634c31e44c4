// SPDX-License-Identifier: Apache-2.0
#include "vmm/mmds/tcp_connection.h"

#include <algorithm>

namespace wisp::mmds {

namespace {

constexpr uint16_t kDefaultMss = 536;  // RFC 9293, section 3.7.1
constexpr uint16_t kMinMss = 100;      // a smaller one that the guest announces is taken as this
constexpr uint16_t kMaxMss = 1460;

}  // namespace

TcpConnection::TcpConnection(const Segment& syn, uint32_t initial_sequence, uint64_t now_ms)
    : initial_(initial_sequence),
      expected_(syn.sequence + 1),
      first_(initial_sequence),
      next_(initial_sequence),
      sent_max_(initial_sequence),
      window_(syn.window),
      mss_(std::clamp(syn.mss ? syn.mss : kDefaultMss, kMinMss, kMaxMss)),
      last_active_ms_(now_ms) {}

/// RFC 9293, section 3.10.7.4: SND.UNA =< SEG.ACK =< SND.MAX.
bool TcpConnection::acknowledges_sent(uint32_t acknowledged) const {
    return !after(first_, acknowledged) && !after(acknowledged, sent_max_);
}

TcpConnection::Verdict TcpConnection::receive(const Segment& segment, uint64_t now_ms) {
    if (segment.has(tcp::kRst)) {
        // RFC 5961, section 3.2: only a reset with the expected sequence number is believed.
        over_ |= segment.sequence == expected_;
        return Verdict::kTaken;
    }
    last_active_ms_ = now_ms;
    if (segment.has(tcp::kSyn)) {
        (established_ ? ack_due_ : syn_due_) = true;  // our answer was lost, or this is another connection
        return Verdict::kTaken;
    }
    if (!segment.has(tcp::kAck)) return Verdict::kTaken;
    if (!established_) {
        if (!acknowledges_sent(segment.acknowledged) || segment.acknowledged == initial_) return Verdict::kReset;
        establish();
    }
    if (after(segment.acknowledged, sent_max_)) {
        ack_due_ = true;  // of what was never sent: the segment is dropped
        return Verdict::kTaken;
    }
    if (acknowledges_sent(segment.acknowledged)) take_acknowledgement(segment, now_ms);
    if (over_) return Verdict::kTaken;
    take_data(segment);
    read_input();
    return Verdict::kTaken;
}

/// Our SYN was acknowledged: what follows are sequence numbers of data.
void TcpConnection::establish() {
    established_ = true;
    syn_due_ = false;
    first_ = next_ = initial_ + 1;
    retries_ = 0;
    retransmit_at_ms_ = UINT64_MAX;
}

void TcpConnection::take_acknowledgement(const Segment& segment, uint64_t now_ms) {
    window_ = segment.window;
    const uint32_t count = segment.acknowledged - first_;
    if (count == 0) return;
    over_ = count > unacknowledged();  // our FIN
    acknowledged_ += std::min<size_t>(count, unacknowledged());
    first_ = segment.acknowledged;
    if (after(first_, next_)) next_ = first_;
    retries_ = 0;
    retransmit_at_ms_ = UINT64_MAX;
    if (unacknowledged() > 0 || fin_due_) {
        retransmit_at_ms_ = now_ms + limits::kMmdsRetransmit_ms;
    } else {
        output_.clear();
        acknowledged_ = 0;
    }
}

void TcpConnection::take_data(const Segment& segment) {
    std::string_view data = segment.data;
    if (data.empty() && !segment.has(tcp::kFin)) {
        ack_due_ |= segment.sequence != expected_;  // a probe
        return;
    }
    ack_due_ = true;
    // The front of what is known may come again; what comes early is not kept.
    const uint32_t known = expected_ - segment.sequence;
    if (after(segment.sequence, expected_) || known > data.size() || guest_done_) return;
    data.remove_prefix(known);
    const size_t taken = std::min(data.size(), limits::kMmdsReceiveBuffer - input_.size());
    input_ += data.substr(0, taken);
    expected_ += static_cast<uint32_t>(taken);
    if (segment.has(tcp::kFin) && taken == data.size()) {
        ++expected_;
        guest_done_ = true;
    }
}

/// Reads the next request. While one waits, or its answer is being sent, input stays in the buffer and closes the
/// window.
void TcpConnection::read_input() {
    if (!output_.empty() || request_ || refused_) return;
    std::string_view bytes = input_;
    const auto step = reader_.read(bytes);
    input_.erase(0, input_.size() - bytes.size());
    if (step == http::RequestReader::Step::kRequest) {
        request_ = reader_.take_request();
    } else if (step == http::RequestReader::Step::kRefused) {
        refused_ = true;
        // As Firecracker: a request that does not fit ends the connection.
        reset_due_ = reader_.refusal().kind == http::Refusal::Kind::kTooLong;
    } else if (guest_done_) {
        fin_due_ = true;
    }
}

bool TcpConnection::answer_due() const {
    return !over_ && !reset_due_ && !fin_due_ && output_.empty() && (request_ || refused_);
}

size_t TcpConnection::make_answer(Service& service, uint64_t now_ms) {
    if (!answer_due()) return 0;
    if (request_) {
        output_ = service.answer(*request_, now_ms);
        request_.reset();
    } else {
        output_ = Service::refuse(reader_.refusal());
        fin_due_ = true;
    }
    return output_.size();
}

void TcpConnection::time_out() {
    reset_due_ |= ++retries_ > limits::kMmdsRetries;
    next_ = first_;
    syn_due_ = !established_;
    retransmit_at_ms_ = UINT64_MAX;
    window_ = std::max(window_, 1u);  // one byte asks a closed window whether it is open again
}

void TcpConnection::fill(Segment& segment, uint8_t flags) const {
    segment = {};
    segment.sequence = next_;
    segment.acknowledged = expected_;
    segment.window = static_cast<uint16_t>(limits::kMmdsReceiveBuffer - input_.size());
    segment.flags = flags;
}

bool TcpConnection::transmit(Segment& segment, size_t max_data, uint64_t now_ms) {
    if (over_) return false;
    if (now_ms >= retransmit_at_ms_) time_out();
    if (reset_due_) {
        fill(segment, tcp::kRst | tcp::kAck);
        over_ = true;
        return true;
    }
    return established_ ? transmit_data(segment, max_data, now_ms) : transmit_syn(segment, now_ms);
}

bool TcpConnection::transmit_syn(Segment& segment, uint64_t now_ms) {
    if (!syn_due_) return false;
    fill(segment, tcp::kSyn | tcp::kAck);
    segment.sequence = initial_;
    segment.mss = kMaxMss;
    sent_max_ = initial_ + 1;
    syn_due_ = false;
    retransmit_at_ms_ = now_ms + limits::kMmdsRetransmit_ms;
    return true;
}

bool TcpConnection::transmit_data(Segment& segment, size_t max_data, uint64_t now_ms) {
    const size_t sent = in_flight();
    const size_t left = unacknowledged() - std::min(sent, unacknowledged());
    const size_t open = window_ > sent ? window_ - sent : 0;
    const size_t count = std::min({left, open, size_t{mss_}, max_data});
    const bool fin = fin_due_ && count == left && sent <= unacknowledged();
    if ((left > 0 || fin) && retransmit_at_ms_ == UINT64_MAX) retransmit_at_ms_ = now_ms + limits::kMmdsRetransmit_ms;
    if (count == 0 && !fin && !ack_due_) return false;
    const bool last = count > 0 && count == left;
    fill(segment, static_cast<uint8_t>(tcp::kAck | (fin ? tcp::kFin : 0) | (last ? tcp::kPsh : 0)));
    segment.data = std::string_view(output_).substr(std::min(acknowledged_ + sent, output_.size()), count);
    next_ += static_cast<uint32_t>(count) + fin;
    if (after(next_, sent_max_)) sent_max_ = next_;
    ack_due_ = false;
    return true;
}

uint64_t TcpConnection::deadline_ms() const {
    if (over_) return UINT64_MAX;
    if (reset_due_) return 0;
    if (!established_) return syn_due_ ? 0 : retransmit_at_ms_;
    const size_t sent = in_flight();
    const bool data = sent < unacknowledged() && window_ > sent;
    const bool fin = fin_due_ && sent == unacknowledged();
    return ack_due_ || answer_due() || data || fin ? 0 : retransmit_at_ms_;
}

void TcpConnection::save(RecordWriter& writer) const {
    writer.u32(sent_max_);  // what the guest has of ours, unless a frame was lost
    writer.u32(expected_);
}

Result<TcpConnection> TcpConnection::restore(RecordReader& reader, uint64_t now_ms) {
    const uint32_t next = TRY(reader.u32("next"));
    const uint32_t expected = TRY(reader.u32("expected"));
    Segment syn;
    syn.sequence = expected - 1;
    TcpConnection connection(syn, next, now_ms);
    connection.next_ = connection.sent_max_ = next;
    connection.reset_due_ = true;
    return connection;
}

}  // namespace wisp::mmds
