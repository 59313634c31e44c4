// SPDX-License-Identifier: Apache-2.0
//
// Vsock: a virtio-vsock device (virtio 1.2, section 5.10), streams only, whose other end is Unix sockets of the host,
// by Firecracker's protocol: a host program connects to `uds_path` and asks for a port of the guest with a line; a
// guest's connection to port P of the host goes to the Unix socket `<uds_path>_P`.
//
// Data goes from the guest's buffers into a socket and back without a copy in between. A reader that stalls
// does not stall other connections: its data waits in guest memory, as long as that is little, then in a buffer of its
// connection.
//
// Threads: the loop's, but for read_config() and counters(). Trusts no byte of the guest (packet.h, connection.h), and
// host programs no further than that they may do to their own connections what they like.
#pragma once

#include <memory>

#include "base/loop.h"
#include "base/result.h"
#include "base/unix_socket.h"
#include "virtio/device.h"
#include "virtio/vsock/common.h"
#include "virtio/vsock/host.h"
#include "virtio/vsock/links.h"
#include "virtio/vsock/receive.h"
#include "virtio/vsock/transmit.h"

namespace wisp::virtio {

class Vsock final : public Device, private PollSource {
public:
    /// Listens at the path, unless `listener` does already. Errors name the path and the reason.
    static Result<std::unique_ptr<Vsock>> create(Loop& loop, VsockConfig config,
                                                 std::shared_ptr<UnixListener> listener = nullptr,
                                                 const VsockSockets& sockets = {});
    ~Vsock();

    const VsockConfig& config() const { return common_.config; }
    const VsockCounters& counters() const { return common_.counters; }
    /// Connections, with those that are being opened or ended.
    unsigned connections() const { return links_.count(); }
    /// For the end of the process, when no destructor will run.
    void unlink_socket() { host_.unlink_socket(); }
    /// Ends all connections and tells the driver so, by an event (section 5.10.6.7): after a restore.
    void reset_transport();

    DeviceId id() const override { return DeviceId::kVsock; }
    const char* name() const override { return "vsock"; }
    uint64_t features() const override { return 0; }  // streams, without saying so (section 5.10.3)
    std::span<const uint16_t> queue_max_sizes() const override { return kQueueSizes; }
    void read_config(uint32_t offset, std::span<std::byte> data) override;
    Result<void> activate(Activation activation) override;
    void on_kick(unsigned queue) override;
    void reset(std::move_only_function<void()> drained) override;
    void pause(std::move_only_function<void()> paused) override;
    void resume() override;
    /// Connections are not saved: restore() tells the driver that all have ended, as soon as the device is resumed.
    void save(RecordWriter& writer) const override;
    Result<void> restore(RecordReader& reader) override;

private:
    static constexpr uint16_t kQueueSizes[VsockCommon::kQueueCount] = {limits::kMaxQueueSize, limits::kMaxQueueSize,
                                                                       limits::kMaxQueueSize};

    Vsock(Loop& loop, VsockConfig config, const VsockSockets& sockets);

    bool poll() override;
    bool arm() override;
    void serve();
    void abandon();

    VsockCommon common_;
    VsockLinks links_;
    VsockHost host_;
    VsockReceiver receiver_;
    VsockTransmitter transmitter_;
};

}  // namespace wisp::virtio
