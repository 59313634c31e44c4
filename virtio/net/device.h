// SPDX-License-Identifier: Apache-2.0
//
// Net: a virtio-net device (virtio 1.2, section 5.1) on a tap of the host: one receive and one transmit queue, no
// control queue.
//
// Back-pressure never freezes a direction. Where the guest has no receive buffers, frames stay in the tap (which drops
// what it cannot hold) until the guest adds some; where the tap takes no frame, the frame stays in hand until the tap
// is writable. Frames are dropped in these cases only, and counted: they are malformed; the tap fails with another
// error than EAGAIN; a frame from the tap is larger than the buffers that the guest has, and these do not become enough
// within limits::kNetPatience_ns; the tap does not take frames in hand when the device is paused; the device is reset.
//
// Threads: the loop's, but for read_config() and counters(). Descriptors, headers and frames are the guest's word;
// frames from the tap come from anywhere.
#pragma once

#include <memory>

#include "base/loop.h"
#include "base/result.h"
#include "virtio/device.h"
#include "virtio/net/interface.h"
#include "virtio/net/receive.h"
#include "virtio/net/transmit.h"

namespace wisp::virtio {

class Net final : public Device, private Watcher, private PollSource {
public:
    static constexpr unsigned kReceiveQueue = NetReceiver::kQueue, kSendQueue = NetTransmitter::kQueue;

    /// Opens the tap. Errors name the interface, the tap and the reason. Where the host forbids io_uring, frames go by
    /// plain system calls and the log says so. Tests give a tap of their own as `tap`.
    static Result<std::unique_ptr<Net>> create(Loop& loop, NetConfig config, std::unique_ptr<FrameIo> tap = nullptr);
    ~Net();

    const NetConfig& config() const { return interface_.config; }
    const NetCounters& counters() const { return interface_.counters; }
    /// For a process that is about to end: closes the tap, so that the next process can have it at once.
    void close();
    /// Sets the limits that each has; see RateLimiter::update().
    void update_rate_limiters(const RateLimiterConfig& receive, const RateLimiterConfig& send);

    DeviceId id() const override { return DeviceId::kNet; }
    const char* name() const override { return interface_.name.c_str(); }
    uint64_t features() const override { return features_; }
    std::span<const uint16_t> queue_max_sizes() const override;
    void read_config(uint32_t offset, std::span<std::byte> data) override;
    Result<void> activate(Activation activation) override;
    void on_kick(unsigned queue) override;
    void reset(std::move_only_function<void()> drained) override;
    void pause(std::move_only_function<void()> paused) override;
    void resume() override;
    void save(RecordWriter& writer) const override;
    Result<void> restore(RecordReader& reader) override;

private:
    Net(Loop& loop, NetConfig config);
    Result<void> open(std::unique_ptr<FrameIo> tap);

    void on_ready(uint32_t events) override;
    bool poll() override;
    bool arm() override;
    bool serve();
    void abandon();

    uint64_t features_ = 0;
    NetInterface interface_;
    NetTransmitter transmitter_;
    NetReceiver receiver_;
};

}  // namespace wisp::virtio
