// SPDX-License-Identifier: Apache-2.0
//
// VsockHost: the host's side of a vsock device: programs that connect, sockets that the guest connects to, and the
// guest's data on its way into them. Owns the listening socket and the epoll instance that watches all sockets; the
// loop watches that one, so a connection costs the loop no slot.
//
// What the host cannot do now is tried again, in turn and a few at a time: connections to programs whose backlog is
// full, sockets that the host has no memory for, programs that it has no descriptors for.
//
// Threads: the loop's. Trusts host programs no further than that they may do to their own connections what they like.
#pragma once

#include <memory>

#include "base/unix_socket.h"
#include "virtio/vsock/common.h"
#include "virtio/vsock/links.h"

namespace wisp::virtio {

class VsockHost {
public:
    /// `on_ready` is called after sockets, or a timer, have changed the state of links.
    VsockHost(VsockCommon& common, VsockLinks& links, std::function<void()> on_ready);
    /// Listens at the configured path, unless `listener` does already.
    Result<void> open(std::shared_ptr<UnixListener> listener);
    void unlink_socket() { listener_->unlink(); }

    /// Programs may be waiting, and sockets may be ready: for a driver that has come, or after a pause.
    void start();
    /// No timer runs until start().
    void stop();
    /// Events of sockets, or programs that wait, were left over by the last turn.
    bool has_work() const { return events_left_ || (may_accept_ && !accept_timer_.armed()); }
    /// Takes the events of sockets, within the turn's budget.
    void take_events();

    /// Connects a link to the host's socket for its port, at once or later.
    void connect(VsockLink& link);
    /// Reads a program's data for the guest: what came with its CONNECT line first.
    Received read(VsockLink& link, std::span<const iovec> parts);
    /// The host could not read from the link's socket for want of memory: it is tried again.
    void retry_read(VsockLink& link);
    /// Writes what waits for the link's socket, as far as that takes it.
    void write(VsockLink& link);
    /// Writes for all links that have data and were not tried, within the batch of the transmit queue.
    void write_dirty();

private:
    void on_events(uint32_t events);
    void on_link_ready(VsockLink& link, uint32_t events);
    void accept_all();
    bool accept_one();
    void read_line(VsockLink& link);
    bool watch(VsockLink& link);
    void retry_later(VsockLink& link);
    void retry_connects();
    void retry_stalled();

    VsockCommon& common_;
    VsockLinks& links_;
    const std::function<void()> on_ready_;
    std::shared_ptr<UnixListener> listener_;
    OwnedFd epoll_;
    MemberWatcher<VsockHost, &VsockHost::on_events> on_events_{*this};
    Watch watch_;
    bool may_accept_ = true;    // a program may be waiting
    bool events_left_ = false;  // a socket may be ready

    VsockConnectingList connecting_;
    VsockStalledList stalled_;
    Timer connect_timer_, stall_timer_, accept_timer_;
};

}  // namespace wisp::virtio
