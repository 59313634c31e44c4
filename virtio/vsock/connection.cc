// SPDX-License-Identifier: Apache-2.0
#include "virtio/vsock/connection.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace wisp::virtio {

VsockConnection VsockConnection::from_guest(const VsockPacket& request, uint32_t grant) {
    VsockConnection connection(grant);
    connection.phase_ = Phase::kConnecting;
    connection.guest_alloc_ = request.buf_alloc;
    return connection;
}

VsockConnection VsockConnection::from_host(uint32_t grant) {
    VsockConnection connection(grant);
    connection.phase_ = Phase::kRequested;
    connection.request_due_ = true;
    return connection;
}

// ---- the guest's side ----

VsockConnection::Verdict VsockConnection::on_packet(const VsockPacket& packet) {
    const auto fault = [this](const char* reason) {
        end();
        return Verdict{reason};
    };
    if (packet.op == VsockOp::kReset) return end_by_guest(), Verdict{};
    if (phase_ == Phase::kEnding || phase_ == Phase::kGone) return {};  // sent before our RST reached the guest
    if (!take_credit(packet)) return fault("fwd_cnt is beyond what was sent");
    switch (packet.op) {
        case VsockOp::kResponse:
            if (phase_ != Phase::kRequested || request_due_) return fault("RESPONSE without a REQUEST");
            phase_ = Phase::kOpen;
            ok_due_ = true;
            break;
        case VsockOp::kRequest:
            return fault("REQUEST for a connection that exists");
        case VsockOp::kData:
            if (phase_ != Phase::kOpen) return fault("data before the connection is open");
            if (guest_shut_send_) return fault("data after SHUTDOWN");
            if (packet.length > grant_ - waiting()) return fault("more data than it has credit for");
            received_ += packet.length;
            if (!host_shut_receive_) return {nullptr, packet.length > 0};
            on_forwarded(packet.length);  // the host reads no more: dropped
            break;
        case VsockOp::kShutdown:
            if (phase_ != Phase::kOpen) return end(), Verdict{};  // it does not want to wait any longer
            guest_shut_send_ |= (packet.flags & kVsockNoSend) != 0;
            guest_shut_receive_ |= (packet.flags & kVsockNoReceive) != 0;
            if (guest_shut_send_ && guest_shut_receive_) end();  // section 5.10.6.5: confirmed by RST
            break;
        case VsockOp::kCreditRequest:
            credit_update_due_ = true;
            break;
        case VsockOp::kCreditUpdate:
        case VsockOp::kReset:
            break;
    }
    return {};
}

// A count that is older than the last one is no fault: threads of the guest may send in another order than they count.
bool VsockConnection::take_credit(const VsockPacket& packet) {
    const bool less = packet.buf_alloc < std::exchange(guest_alloc_, packet.buf_alloc);
    const auto ahead = static_cast<int32_t>(packet.fwd_cnt - guest_forwarded_);
    if (ahead > 0) {
        if (static_cast<uint32_t>(ahead) > sent_ - guest_forwarded_) return false;
        guest_forwarded_ = packet.fwd_cnt;
    }
    if (may_send() > 0) credit_requested_ = credit_request_due_ = false;
    if (less) update_credit();
    return true;
}

std::optional<VsockConnection::Due> VsockConnection::due_packet() const {
    if (guest_gone_) return std::nullopt;
    if (reset_due_) return Due{VsockOp::kReset};
    if (request_due_) return Due{VsockOp::kRequest};
    if (response_due_) return Due{VsockOp::kResponse};
    if (phase_ != Phase::kOpen) return std::nullopt;
    if (const uint32_t flags = shutdown_flags(); flags & ~shutdown_sent_) return Due{VsockOp::kShutdown, flags};
    if (credit_update_due_) return Due{VsockOp::kCreditUpdate};
    if (credit_request_due_) return Due{VsockOp::kCreditRequest};
    return std::nullopt;
}

void VsockConnection::on_sent(const Due& due) {
    forwarded_sent_ = forwarded_;
    credit_update_due_ = false;  // every header says it
    switch (due.op) {
        case VsockOp::kReset:
            reset_due_ = false;
            guest_gone_ = true;
            end_if_drained();
            break;
        case VsockOp::kRequest:
            request_due_ = false;
            break;
        case VsockOp::kResponse:
            response_due_ = false;
            break;
        case VsockOp::kShutdown:
            shutdown_sent_ |= due.flags;
            break;
        case VsockOp::kCreditRequest:
            credit_request_due_ = false;
            break;
        case VsockOp::kCreditUpdate:
        case VsockOp::kData:
            break;
    }
}

// Once both ways are over, the guest gets both flags, whichever side ended which, and confirms.
uint32_t VsockConnection::shutdown_flags() const {
    if (to_guest_over() && to_host_over()) return kVsockBoth;
    return (host_shut_send_ ? kVsockNoSend : 0) | (host_shut_receive_ ? kVsockNoReceive : 0);
}

uint32_t VsockConnection::may_send() const {
    if (!wants_host_data() || response_due_) return 0;
    const uint32_t in_flight = sent_ - guest_forwarded_;
    return guest_alloc_ > in_flight ? guest_alloc_ - in_flight : 0;
}

bool VsockConnection::lacks_credit() const {
    return wants_host_data() && !response_due_ && guest_alloc_ <= sent_ - guest_forwarded_;
}

void VsockConnection::on_data_sent(uint32_t bytes) {
    CHECK(bytes <= may_send());
    sent_ += bytes;
    forwarded_sent_ = forwarded_;
    credit_update_due_ = false;
}

void VsockConnection::request_credit() {
    if (!std::exchange(credit_requested_, true)) credit_request_due_ = true;
}

// ---- the host's side ----

void VsockConnection::on_host_connected() {
    if (phase_ != Phase::kConnecting) return;
    phase_ = Phase::kOpen;
    response_due_ = true;
}

void VsockConnection::on_forwarded(uint32_t bytes) {
    CHECK(bytes <= waiting());
    forwarded_ += bytes;
    update_credit();
    end_if_drained();
}

// An update costs the guest a buffer and perhaps an interrupt, so it waits until half of the credit is used up. No more
// of it may be in use than the guest grants itself: Linux sends no further ahead than that
// (virtio_transport_tx_buf_size), and would wait for ever for an update that is due later.
void VsockConnection::update_credit() {
    if (forwarded_ != forwarded_sent_ && received_ - forwarded_sent_ >= std::min(grant_, guest_alloc_) / 2)
        credit_update_due_ = true;
}

void VsockConnection::on_host_shut_send() {
    host_shut_send_ = true;
}

void VsockConnection::on_host_shut_receive() {
    host_shut_receive_ = true;
    on_forwarded(waiting());
}

VsockConnection::HostAction VsockConnection::take_host_action() {
    if (closed_) return HostAction::kNone;
    if (phase_ == Phase::kEnding || phase_ == Phase::kGone) {
        if (phase_ == Phase::kEnding && waiting() > 0) return HostAction::kNone;
        closed_ = true;
        return HostAction::kClose;
    }
    if (std::exchange(ok_due_, false)) return HostAction::kSayOk;
    if (phase_ != Phase::kOpen) return HostAction::kNone;
    if (guest_shut_receive_ && !std::exchange(read_shut_, true)) return HostAction::kShutdownRead;
    if (guest_shut_send_ && !host_shut_receive_ && waiting() == 0 && !std::exchange(write_shut_, true))
        return HostAction::kShutdownWrite;
    return HostAction::kNone;
}

// ---- ends ----

// The connection is over for the guest: it gets an RST.
void VsockConnection::end() {
    if (phase_ == Phase::kEnding || phase_ == Phase::kGone) return;
    // Before the REQUEST has gone out the guest knows of nothing.
    if (request_due_)
        guest_gone_ = true;
    else
        reset_due_ = true;
    request_due_ = response_due_ = ok_due_ = false;
    phase_ = Phase::kEnding;
    end_if_drained();
}

void VsockConnection::end_by_guest() {
    if (phase_ == Phase::kGone) return;
    request_due_ = response_due_ = reset_due_ = ok_due_ = false;
    guest_gone_ = true;
    phase_ = Phase::kEnding;
    end_if_drained();
}

void VsockConnection::end_if_drained() {
    if (phase_ == Phase::kEnding && guest_gone_ && waiting() == 0) phase_ = Phase::kGone;
}

VsockConnection::Timeout VsockConnection::timeout() const {
    switch (phase_) {
        case Phase::kConnecting:
        case Phase::kRequested:
            return Timeout::kConnect;
        case Phase::kOpen:
            return shutdown_sent_ == kVsockBoth ? Timeout::kShutdown : Timeout::kNone;
        case Phase::kEnding:
            return Timeout::kLinger;
        case Phase::kGone:
            break;
    }
    return Timeout::kNone;
}

void VsockConnection::on_timeout() {
    if (phase_ != Phase::kEnding) return end();
    phase_ = Phase::kGone;
    guest_gone_ = true;
}

}  // namespace wisp::virtio
