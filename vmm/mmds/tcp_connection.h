// SPDX-License-Identifier: Apache-2.0
//
// TcpConnection: one connection of the guest to the metadata service (RFC 9293). A pure state machine: segments and the
// time go in, segments come out. It keeps data in order only (what comes early is asked for again), goes back to the
// first byte that was not acknowledged when a timer runs out, and uses no option but MSS.
//
// Everything in a segment comes from the guest. It can make a connection hold one receive buffer, one request and one
// answer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/limits.h"
#include "base/record.h"
#include "http/request_reader.h"
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
    uint16_t mss = 0;  ///< of its option; 0: it has none
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
    enum class Verdict : uint8_t {
        kTaken,
        kReset,  ///< the segment is to be answered with a reset; the connection stays as it is
    };

    /// Answers a guest's SYN.
    TcpConnection(const Segment& syn, uint32_t initial_sequence, uint64_t now_ms);

    Verdict receive(const Segment& segment, uint64_t now_ms);

    /// Makes the answer to a request that is whole, once the answer before it was acknowledged. Its size in bytes, or 0
    /// where none is due.
    size_t make_answer(Service& service, uint64_t now_ms);

    /// The next segment to send, if there is one, with at most `max_data` bytes. Its data is valid until the next call.
    bool transmit(Segment& segment, size_t max_data, uint64_t now_ms);

    /// When make_answer() or transmit() has something to do: `now_ms` or earlier for at once, UINT64_MAX for not until
    /// a segment comes.
    uint64_t deadline_ms() const;

    /// Nothing is left to do.
    bool over() const { return over_; }
    bool idle_since(uint64_t then_ms) const { return last_active_ms_ <= then_ms; }

    /// Fields of a leaf. A connection does not survive the process: what is restored has only its reset left to send,
    /// so that the guest does not wait for an answer.
    void save(RecordWriter& writer) const;
    static Result<TcpConnection> restore(RecordReader& reader, uint64_t now_ms);

private:
    bool acknowledges_sent(uint32_t acknowledged) const;
    void establish();
    void take_acknowledgement(const Segment& segment, uint64_t now_ms);
    void take_data(const Segment& segment);
    void read_input();
    bool answer_due() const;
    void time_out();
    void fill(Segment& segment, uint8_t flags) const;
    bool transmit_syn(Segment& segment, uint64_t now_ms);
    bool transmit_data(Segment& segment, size_t max_data, uint64_t now_ms);
    /// Bytes of output_ that are not acknowledged.
    size_t unacknowledged() const { return output_.size() - acknowledged_; }
    /// Sequence numbers that are sent and not acknowledged: data, and then the FIN.
    uint32_t in_flight() const { return next_ - first_; }

    bool established_ = false;
    bool syn_due_ = true, ack_due_ = false, reset_due_ = false;
    bool guest_done_ = false;  ///< the guest has sent its FIN
    bool fin_due_ = false;     ///< a FIN follows the output
    bool over_ = false;

    uint32_t initial_;   ///< ISS: the sequence number of our SYN
    uint32_t expected_;  ///< RCV.NXT: the guest's next byte
    uint32_t first_;     ///< SND.UNA: our first byte that is not acknowledged
    uint32_t next_;      ///< SND.NXT: our next byte to send
    uint32_t sent_max_;  ///< SND.MAX: past the last byte that was ever sent; retransmission does not take it back
    uint32_t window_;    ///< SND.WND: what the guest takes from first_ on
    uint32_t mss_;

    http::RequestReader reader_{{limits::kMmdsReceiveBuffer, limits::kMmdsReceiveBuffer, limits::kMmdsBody}};
    std::string input_;                     ///< received and not read yet
    std::optional<http::Request> request_;  ///< it waits for its answer
    bool refused_ = false;                  ///< the reader has refused the input: its answer is the last one
    std::string output_;                    ///< the answer that is being sent
    size_t acknowledged_ = 0;               ///< bytes of output_

    unsigned retries_ = 0;
    uint64_t retransmit_at_ms_ = UINT64_MAX;
    uint64_t last_active_ms_;
};

}  // namespace wisp::mmds
