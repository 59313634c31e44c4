// SPDX-License-Identifier: Apache-2.0
//
// What a vsock device keeps of one connection: the state of the stream, the host's socket, and the guest's data that
// waits for it. Loop thread.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "base/fd.h"
#include "base/limits.h"
#include "base/list.h"
#include "virtio/vsock/connection.h"
#include "virtio/vsock/outbox.h"

namespace wisp::virtio {

struct VsockLink;

// The lists that a link can be in.
struct ForGuest {};    // it has something for the guest
struct ForHost {};     // it has data for the host that was not tried yet
struct Connecting {};  // the host's backlog is full: it is tried again
struct Stalled {};     // its socket took nothing: it is tried again, in case no event comes
struct Released {};    // it is over
using VsockWorkList = TaggedList<VsockLink, ForGuest>;
using VsockDirtyList = TaggedList<VsockLink, ForHost>;
using VsockConnectingList = TaggedList<VsockLink, Connecting>;
using VsockStalledList = TaggedList<VsockLink, Stalled>;
using VsockReleasedList = TaggedList<VsockLink, Released>;

struct VsockLink final : ListNode<VsockLink, ForGuest>,
                         ListNode<VsockLink, ForHost>,
                         ListNode<VsockLink, Connecting>,
                         ListNode<VsockLink, Stalled>,
                         ListNode<VsockLink, Released> {
    VsockLink(uint16_t in_slot, uint32_t of_generation, VsockParkedPool& pool)
        : slot(in_slot), generation(of_generation), outbox(pool) {}

    /// Tells events of this link from those of its slot's last one.
    uint64_t event_data() const { return static_cast<uint64_t>(generation) << 32 | slot; }
    /// It has a packet, or data that the guest may have now.
    bool wants_guest();
    /// Leaves the list of those that connect again.
    void stop_connecting() { static_cast<ListNode<VsockLink, Connecting>&>(*this).leave(); }

    const uint16_t slot;
    const uint32_t generation;
    OwnedFd fd;
    VsockPorts ports;
    bool mapped = false;                        // found by its ports
    std::optional<VsockConnection> connection;  // none until the CONNECT line has come
    std::array<char, limits::kVsockConnectLine> line{};
    size_t line_size = 0;
    std::string_view early;  // of `line`: what came behind the CONNECT line, for the guest
    uint32_t credit = 0;     // taken of the total, beyond the least

    bool readable = false;
    bool ending = false;  // an end waits behind the data: no event will tell again
    bool writable = true;
    bool read_failed = false;  // for want of memory: no event will tell again
    uint32_t expected = 4096;  // bytes that the next read may bring

    VsockOutbox outbox;

    VsockConnection::Timeout timeout = VsockConnection::Timeout::kNone;
    uint64_t deadline_ns = 0;  // 0: none
};

}  // namespace wisp::virtio
