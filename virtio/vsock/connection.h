// SPDX-License-Identifier: Apache-2.0
//
// VsockConnection: the state of one stream between a port of the guest and a Unix socket of the host. It does no I/O:
// the device reports what happened on either side, and asks what to send and what to do.
//
//   guest ──packets──▶ on_packet()           due_packet(), may_send() ──packets──▶ guest
//   host ──on_host_…()                       take_host_action() ──▶ the Unix socket
//
// Credit (virtio 1.2, section 5.10.6.3), both ways in bytes modulo 2^32. What the guest sends is at most `grant` bytes
// ahead of what the host's socket took, so that is all that can ever wait here.
//
// Threads: that of its owner. Trusts no packet: each is the guest's word.
#pragma once

#include <cstdint>
#include <optional>

#include "virtio/vsock/packet.h"

namespace wisp::virtio {

class VsockConnection {
public:
    enum class Phase : uint8_t {
        kConnecting,  ///< the guest asked; the host's socket is not connected yet
        kRequested,   ///< the host asked; the guest has not answered
        kOpen,
        kEnding,  ///< for the guest it is over; data that it sent before may still have to reach the host
        kGone,    ///< nothing is left to do
    };

    /// The guest's REQUEST came. `grant`: bytes that it may send ahead.
    static VsockConnection from_guest(const VsockPacket& request, uint32_t grant);
    /// A host program asked.
    static VsockConnection from_host(uint32_t grant);

    Phase phase() const { return phase_; }
    uint32_t grant() const { return grant_; }

    // ---- the guest's side ----

    struct Verdict {
        const char* fault = nullptr;  ///< how the packet breaks the protocol; the connection is reset
        bool take_data = false;       ///< the packet's data has to go to the host, after what came before
    };
    Verdict on_packet(const VsockPacket& packet);
    /// A packet that is not even sound came for this connection: it is reset.
    void on_broken_packet() { end(); }

    struct Due {
        VsockOp op;
        uint32_t flags = 0;
    };
    /// The packet without data that has to go to the guest next, before any data.
    std::optional<Due> due_packet() const;
    void on_sent(const Due& due);

    /// Bytes that may go to the guest now. 0 while a packet is due, without credit, or if the guest takes none.
    uint32_t may_send() const;
    void on_data_sent(uint32_t bytes);
    /// True if nothing but the guest's credit keeps data from it.
    bool lacks_credit() const;
    /// The host has data, and there is no credit for it: asks the guest for more, once.
    void request_credit();

    /// The credit fields of a header to the guest. on_sent() and on_data_sent() note that the guest has them.
    uint32_t buf_alloc() const { return grant_; }
    uint32_t fwd_cnt() const { return forwarded_; }
    /// Packets with these ports belong to this connection: the guest knows of it, or may soon.
    bool guest_knows() const { return !guest_gone_; }

    // ---- the host's side ----

    void on_host_connected();
    void on_host_refused() { end(); }
    /// `bytes` of the guest's data went into the host's socket.
    void on_forwarded(uint32_t bytes);
    /// All data of the host was read: its end came.
    void on_host_shut_send();
    /// The host takes no more. Data that waits for it is lost.
    void on_host_shut_receive();

    enum class HostAction : uint8_t {
        kNone,
        kSayOk,          ///< the line that answers CONNECT
        kShutdownRead,   ///< the guest receives no more
        kShutdownWrite,  ///< the guest sends no more, and all it sent has gone
        kClose,          ///< both ways are over
    };
    HostAction take_host_action();
    /// True while data from the host may still be wanted.
    bool wants_host_data() const { return phase_ == Phase::kOpen && !host_shut_send_ && !guest_shut_receive_; }
    /// Bytes of the guest that have not gone into the host's socket.
    uint32_t waiting() const { return received_ - forwarded_; }

    // ---- time ----

    enum class Timeout : uint8_t { kNone, kConnect, kShutdown, kLinger };
    /// What is waited for, for a bounded time. The time starts again when this changes, and, for kLinger, with
    /// progress.
    Timeout timeout() const;
    void on_timeout();

private:
    explicit VsockConnection(uint32_t grant) : grant_(grant) {}
    void end();
    void end_by_guest();
    void end_if_drained();
    bool take_credit(const VsockPacket& packet);
    void update_credit();
    uint32_t shutdown_flags() const;
    bool to_guest_over() const { return host_shut_send_ || guest_shut_receive_; }
    bool to_host_over() const { return host_shut_receive_ || (guest_shut_send_ && waiting() == 0); }

    uint32_t grant_;
    Phase phase_ = Phase::kOpen;

    // Packets due
    bool request_due_ = false;
    bool response_due_ = false;
    bool reset_due_ = false;
    bool credit_update_due_ = false;
    bool credit_request_due_ = false;
    bool credit_requested_ = false;  // since credit came last
    uint32_t shutdown_sent_ = 0;     // flags that the guest has been sent

    // What each side will not do any more
    bool guest_shut_send_ = false, guest_shut_receive_ = false, guest_gone_ = false;
    bool host_shut_send_ = false, host_shut_receive_ = false;

    // Host actions
    bool ok_due_ = false, read_shut_ = false, write_shut_ = false, closed_ = false;

    // Guest to host
    uint32_t received_ = 0, forwarded_ = 0, forwarded_sent_ = 0;
    // Host to guest
    uint32_t sent_ = 0, guest_alloc_ = 0, guest_forwarded_ = 0;
};

}  // namespace wisp::virtio
