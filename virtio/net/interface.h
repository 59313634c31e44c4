// SPDX-License-Identifier: Apache-2.0
//
// NetInterface: what both directions of a network device work on: its queues, its tap and the watch on it, its
// responder, its counters. The device owns it.
//
// Threads: the loop's.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/limits.h"
#include "base/loop.h"
#include "virtio/device_queues.h"
#include "virtio/net/config.h"
#include "virtio/net/counters.h"
#include "virtio/net/engine.h"

namespace wisp::virtio {

/// Watches a tap for frames, and for room after it was full.
class TapWatch {
public:
    TapWatch(Loop& loop, Watcher& watcher) : loop_(loop), watcher_(watcher), retry_(loop, [this] { retry(); }) {}

    /// Watches `fd`, if it is not watched already: the watcher is called at once if the tap is ready. Where the host
    /// refuses the watch, the watcher is called every limits::kNetWatchRetry_ms instead, until the host allows it.
    void start(int fd);
    void stop();
    /// Calls the watcher once more after limits::kNetWatchRetry_ms: the host could not do what it was asked to.
    void look_again();
    /// An event of the tap came while frames could not be delivered anyway. After limits::kNetIdleEvents of these in a
    /// row the tap is not watched until start() is called again.
    void count_idle_event() {
        if (++idle_events_ == limits::kNetIdleEvents) stop();
    }

private:
    void retry();

    Loop& loop_;
    Watcher& watcher_;
    Watch watch_;
    Timer retry_;
    int fd_ = -1;
    unsigned idle_events_ = 0;
};

/// A responder and the timer that tells when it has a frame for the guest. Does nothing where there is no responder.
class ResponderPort {
public:
    /// `on_due` is called when the responder has a frame.
    ResponderPort(Loop& loop, std::unique_ptr<FrameResponder> responder, std::function<void()> on_due);

    bool exists() const { return responder_ != nullptr; }
    bool wants(std::span<const std::byte> start) const { return responder_->wants(start); }
    /// Gives it a frame of the guest.
    void receive(std::span<const std::byte> frame);
    /// It may have a frame for the guest.
    bool due() const { return due_; }
    /// The next frame for the guest: its length, or 0 if there is none.
    size_t transmit(std::span<std::byte> room);

    /// Nothing is due, and no timer runs, until start().
    void stop();
    void start() { due_ = exists(); }

private:
    void set_timer(uint64_t now_ns);

    const std::unique_ptr<FrameResponder> responder_;
    Timer timer_;
    bool due_ = false;
};

struct NetInterface {
    NetInterface(Loop& on, NetConfig wanted, PollSource& source, Watcher& watcher, std::function<void()> on_answer)
        : loop(on),
          config(std::move(wanted)),
          name("network interface " + config.id),
          queues(on, source),
          watch(on, watcher),
          responder(on, std::move(config.responder), std::move(on_answer)) {}

    void watch_tap() { watch.start(tap->fd()); }

    Loop& loop;
    NetConfig config;  // without the responder
    const std::string name;
    DeviceQueues queues;
    std::unique_ptr<FrameIo> tap;
    TapWatch watch;
    ResponderPort responder;
    NetCounters counters;
};

}  // namespace wisp::virtio
