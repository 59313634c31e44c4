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
// Threads: the loop's, but for read_config(). Descriptors, headers and frames are the guest's word; frames from the tap
// are anybody's.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/limits.h"
#include "base/loop.h"
#include "base/mapping.h"
#include "base/rate_limiter.h"
#include "base/result.h"
#include "virtio/device.h"
#include "virtio/device_queues.h"
#include "virtio/net/buffers.h"
#include "virtio/net/counters.h"
#include "virtio/net/engine.h"
#include "virtio/net/header.h"

namespace wisp::virtio {

/// Answers frames of the guest in place of the host's network (MMDS). What it takes never reaches the tap.
class FrameResponder {
public:
    virtual ~FrameResponder() = default;
    /// The first bytes of a frame that it needs to see, at most, to know whether the frame is for it.
    static constexpr size_t kStart = ETH_HLEN + 28;
    virtual bool wants(std::span<const std::byte> start) const = 0;
    /// Takes a whole frame, without the virtio header.
    virtual void receive(std::span<const std::byte> frame, uint64_t now_ns) = 0;
    /// The next frame for the guest: its length, or 0 if there is none. There is room for limits::kNetMaxFrame bytes.
    virtual size_t transmit(std::span<std::byte> frame, uint64_t now_ns) = 0;
    /// When transmit() has something; UINT64_MAX: not before something is received.
    virtual uint64_t deadline_ns() const = 0;
};

struct NetConfig {
    using MacAddress = std::array<uint8_t, 6>;

    std::string id{};   ///< iface_id, for messages
    std::string tap{};  ///< host_dev_name
    std::optional<MacAddress> mac{};
    std::optional<uint16_t> mtu{};
    RateLimiterConfig receive_limiter{}, send_limiter{};
    std::unique_ptr<FrameResponder> responder{};
};

class Net final : public Device, private Watcher, private PollSource {
public:
    static constexpr unsigned kReceiveQueue = 0, kSendQueue = 1;

    /// Opens the tap. Errors name the interface, the tap and the reason. Where the host forbids io_uring, frames go by
    /// plain system calls and the log says so. Tests give a tap of their own as `io`.
    static Result<std::unique_ptr<Net>> create(Loop& loop, NetConfig config, std::unique_ptr<FrameIo> io = nullptr);
    ~Net();

    const NetConfig& config() const { return config_; }
    const NetCounters& counters() const { return counters_; }
    /// For a process that is about to end: lets go of the tap, so that the next one can have it at once.
    void close();
    /// Sets the limits that each has; see RateLimiter::update().
    void update_rate_limiters(const RateLimiterConfig& receive, const RateLimiterConfig& send);

    DeviceId id() const override { return DeviceId::kNet; }
    const char* name() const override { return name_.c_str(); }
    uint64_t features() const override { return features_; }
    std::span<const uint16_t> queue_max_sizes() const override;
    void read_config(uint32_t offset, std::span<std::byte> data) override;
    Result<void> activate(Activation activation) override;
    void on_kick(unsigned queue) override;
    void reset(std::move_only_function<void()> drained) override;
    void pause(std::move_only_function<void()> paused) override;
    void resume() override;

private:
    struct SentFrame;
    struct Sender;
    struct Slot;
    struct Receiver;

    Net(Loop& loop, NetConfig config);
    Result<void> open(std::unique_ptr<FrameIo> io);

    Queue& receive_queue() { return queues_[kReceiveQueue]; }
    Queue& send_queue() { return queues_[kSendQueue]; }
    void on_ready(uint32_t events) override;
    void watch_tap();
    bool poll() override;
    bool arm() override;
    void serve();
    void publish();
    void set_broken(const char* reason);
    void forget();
    void arm_responder();

    // The guest's frames: net_send.cc
    bool may_send() const;
    void send_frames();
    bool take_frames();
    enum class Taken : uint8_t { kYes, kNotNow };
    Taken take_frame(Chain& chain, size_t begin);
    void respond(std::span<GuestSlice> rest, size_t seen);
    void drop_sent(Chain& chain, const char* reason);
    void flush_frames();
    void finish_sent(SentFrame& frame, int64_t result);
    void let_go_of_sent();

    // Frames for the guest: net_receive.cc
    bool may_receive() const;
    void receive_frames();
    bool receive_next();
    bool receive_batch();
    unsigned plan_batch();
    void finish_batch(unsigned planned);
    void finish_frame(Slot& slot, uint64_t size);
    const char* find_fault(const Slot& slot, uint64_t size);
    uint32_t use_buffer(size_t index, uint64_t size);
    void count_received(const Slot& slot, uint64_t size);
    void drop_received(const char* reason);
    void keep(Slot& slot, uint64_t size);
    void take_answer();
    bool deliver(Slot& slot);
    void buffers_suffice();
    bool wait_for_buffers(uint64_t patience_ns);
    void on_patience_over();

    Loop& loop_;
    NetConfig config_;
    const std::string name_;
    uint64_t features_ = 0;
    std::unique_ptr<FrameIo> io_;
    NetCounters counters_;
    RateLimiter receive_limiter_, send_limiter_;

    DeviceQueues queues_;
    Watch watch_;
    std::unique_ptr<Sender> sender_;
    std::unique_ptr<Receiver> receiver_;
    Timer responder_timer_, patience_timer_;
    bool answer_due_ = false;     // the responder has something
    bool tap_readable_ = false;   // until it said EAGAIN
    bool needs_buffers_ = false;  // frames wait for buffers of the guest's
    unsigned idle_events_ = 0;    // events of the tap in a row that told nothing new
};

}  // namespace wisp::virtio
