// SPDX-License-Identifier: Apache-2.0
//
// VsockLinks: the connections of a vsock device: where they are kept, what has to be done for each after anything
// happened to it, their deadlines, and how they end.
//
// Threads: the loop's.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "base/record.h"
#include "virtio/vsock/common.h"
#include "virtio/vsock/link.h"

namespace wisp::virtio {

class VsockLinks {
public:
    /// `on_timeout` is called when deadlines have changed the state of links.
    VsockLinks(VsockCommon& common, std::function<void()> on_timeout);
    Result<void> reserve() { return parked_.reserve(); }

    // ---- how links come ----

    unsigned count() const { return static_cast<unsigned>(limits::kVsockConnections - free_.size()); }
    bool full() const { return free_.empty(); }
    /// Null where there are as many as there can be.
    VsockLink* add(OwnedFd fd);
    /// Makes it a connection that the guest asked for, or one that a host program asked for with a port of the guest.
    void open_from_guest(VsockLink& link, const VsockPacket& request);
    void open_from_host(VsockLink& link, uint32_t guest_port);
    VsockLink* find(VsockPorts ports);
    /// The link whose event_data() this is, or null.
    VsockLink* find_event(uint64_t event_data);

    // ---- after anything happened ----

    /// Does what a connection's state asks for. Called after each change of it.
    void update(VsockLink& link);
    void set_deadline(VsockLink& link, uint64_t delay_ms);
    /// The host takes no more of the guest's data: what waits is dropped.
    void drop_data(VsockLink& link);
    VsockParkedPool& parked() { return parked_; }

    VsockWorkList work;    ///< have something for the guest
    VsockDirtyList dirty;  ///< have data for the host that was not tried yet

    // ---- how links go ----

    /// The link is over. It stays where it is until remove_released(), as callers may still look at it.
    void release(VsockLink& link);
    void release_all();
    /// True if there were any: there is room for others.
    bool remove_released();

    // ---- pause ----

    /// Copies what is parked, so that no chain is in hand; stops the deadlines.
    void pause();
    /// Moves the deadlines by the length of the pause: no side could do anything about them.
    void resume();

    // ---- state ----

    /// The next port of the host, so that a port of a connection of before is not used again soon. A part of a leaf.
    void save(RecordWriter& writer) const { writer.u32(next_host_port_); }
    Result<void> restore(RecordReader& reader);

private:
    void set_ports(VsockLink& link, VsockPorts ports);
    uint32_t choose_host_port(uint32_t guest_port);
    uint32_t take_credit(VsockLink& link);
    void run_host_actions(VsockLink& link);
    void on_timer();
    void arm_timer();
    void expire(VsockLink& link);

    VsockCommon& common_;
    const std::function<void()> on_timeout_;
    VsockParkedPool parked_;  // before the links, which hold packets of it
    VsockReleasedList released_;
    std::vector<std::unique_ptr<VsockLink>> links_;
    std::vector<uint16_t> free_;  // slots
    std::unordered_map<uint64_t, VsockLink*> by_ports_;
    uint64_t credit_left_ = limits::kVsockCreditTotal;
    uint32_t next_host_port_;
    uint32_t generation_ = 0;
    Timer timer_;
    uint64_t earliest_ns_ = 0;
    uint64_t paused_at_ns_ = 0;
};

}  // namespace wisp::virtio
