// SPDX-License-Identifier: Apache-2.0
//
// What all parts of a vsock device work on: its configuration, queues and counters. The device owns it.
//
// Threads: the loop's.
#pragma once

#include <cstdint>
#include <string>

#include "base/loop.h"
#include "base/unix_socket.h"
#include "virtio/device_queues.h"
#include "virtio/vsock/counters.h"
#include "virtio/vsock/packet.h"

namespace wisp::virtio {

struct VsockConfig {
    uint32_t guest_cid = kVsockFirstGuestCid;
    std::string uds_path{};
};

/// The calls to sockets of the host; tests give their own, to make them fail.
struct VsockSockets {
    decltype(&connect_unix) connect = connect_unix;
    decltype(&send_some) send = send_some;
    decltype(&receive_some) receive = receive_some;
};

struct VsockCommon {
    static constexpr unsigned kRx = 0, kTx = 1, kEvents = 2, kQueueCount = 3;

    VsockCommon(Loop& on, VsockConfig wanted, PollSource& source, const VsockSockets& calls)
        : loop(on), config(std::move(wanted)), sockets(calls), queues(on, source) {}

    Loop& loop;
    const VsockConfig config;
    const VsockSockets sockets;
    DeviceQueues queues;
    VsockCounters counters;
};

/// The host is short of memory: the call may work later, and no event will tell when.
inline bool is_shortage(ssize_t result) {
    return result == -ENOMEM || result == -ENOBUFS;
}

}  // namespace wisp::virtio
