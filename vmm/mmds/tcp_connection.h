// SPDX-License-Identifier: Apache-2.0
//
// TcpConnection: one connection of the guest to the metadata service. A pure state machine: segments and the time go
// in, segments come out. It keeps in-order data only (what comes early is asked for again), goes back to the first byte
// that was not acknowledged when it is late, and uses no options but MSS.
//
// Everything in a segment comes from the guest. What it can make us hold is kReceiveBuffer bytes and one answer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/record.h"
#include "vmm/mmds/service.h"

namespace wisp::mmds {

namespace tcp {
inline constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16;
}

/// A segment, apart from its addresses.
struct Segment {
    uint32_t sequence = 0;
    uint32_t acknowledged = 0;
    uint16_t window = 0;
    uint16_t mss = 0;  ///< of its option; 0: there is none
    uint8_t flags = 0;
    std::string_view data = {};

    bool has(uint8_t flag) const { return flags & flag; }
};

/// Whether a comes after b, in sequence numbers that wrap.
inline bool after(uint32_t a, uint32_t b) {
    return static_cast<int32_t>(a - b) > 0;
}

class TcpConnection {
public:
    static constexpr size_t kReceiveBuffer = 2500;  // bytes of a request, head and body
    static constexpr uint64_t kRetransmit_ms = 1200;
    static constexpr unsigned kMaxRetries = 15;
    static constexpr uint64_t kIdle_ms = 40'000;  // after which a newcomer may take its place

    /// Answers a guest's SYN.
    TcpConnection(const Segment& syn, uint32_t initial_sequence, uint64_t now_ms);

    void receive(const Segment& segment, Service& service, uint64_t now_ms);

    /// The next segment to send, if there is one, with at most `max_data` bytes. Its data is ours until the next call.
    bool transmit(Segment& segment, size_t max_data, uint64_t now_ms);

    /// When transmit() has something to do: `now_ms` or earlier for at once, UINT64_MAX for not until something comes.
    uint64_t deadline_ms() const;

    /// Nothing is left to be said.
    bool over() const { return over_; }
    bool idle_since(uint64_t then_ms) const { return last_active_ms_ <= then_ms; }

    /// Fields of a leaf. A connection does not survive the process: what is restored has only its reset left to send,
    /// so that the guest does not wait for an answer.
    void save(RecordWriter& writer) const;
    static Result<TcpConnection> restore(RecordReader& reader, uint64_t now_ms);

private:
    void take_acknowledgement(const Segment& segment, uint64_t now_ms);
    void take_data(const Segment& segment);
    void serve(Service& service, uint64_t now_ms);
    void fill(Segment& segment, uint8_t flags) const;
    bool all_sent() const { return next_ == first_ + output_.size() + fin_sent_; }

    bool established_ = false;
    bool syn_due_ = true, ack_due_ = false, reset_due_ = false;
    bool guest_done_ = false;  ///< it has sent its FIN
    bool fin_due_ = false;     ///< ours follows the output
    bool fin_sent_ = false;
    bool over_ = false;

    uint32_t initial_;   ///< our first sequence number: that of our SYN
    uint32_t expected_;  ///< next byte of the guest
    uint32_t first_;     ///< first byte of ours that is not acknowledged: output_[0]
    uint32_t next_;      ///< next byte of ours to be sent
    uint32_t window_;    ///< what the guest takes from first_ on
    uint32_t mss_;
    std::string input_;
    std::string output_;
    unsigned retries_ = 0;
    uint64_t retransmit_at_ms_ = UINT64_MAX;
    uint64_t last_active_ms_;
};

}  // namespace wisp::mmds
