// SPDX-License-Identifier: Apache-2.0
//
// A network interface's life: its tap, what it shows the driver, activation, reset and pause. What becomes of frames is
// in transmit.cc and receive.cc.
#include "virtio/net/device.h"

#include <sys/epoll.h>

#include <algorithm>

#include "base/log.h"

namespace wisp::virtio {

namespace {

constexpr uint16_t kQueueSizes[] = {limits::kMaxQueueSize, limits::kMaxQueueSize};

}  // namespace

// ---- construction ----

Net::Net(Loop& loop, NetConfig config)
    : interface_(loop, std::move(config), *this, *this, [this] { serve(); }),
      transmitter_(interface_, [this] { serve(); }),
      receiver_(interface_, [this] { serve(); }) {}

Net::~Net() = default;

Result<std::unique_ptr<Net>> Net::create(Loop& loop, NetConfig config, std::unique_ptr<FrameIo> tap) {
    std::unique_ptr<Net> net(new Net(loop, std::move(config)));
    TRY_CONTEXT(net->name(), net->open(std::move(tap)));
    return net;
}

Result<void> Net::open(std::unique_ptr<FrameIo> tap) {
    const NetConfig& config = interface_.config;
    if (tap) {
        interface_.tap = std::move(tap);
    } else {
        Tap opened = TRY(Tap::open(config.tap));
        if (auto ring = create_uring_frame_io(opened)) {
            interface_.tap = *std::move(ring);
        } else {
            LOG_WARNING("%s: frames go by plain system calls: %s", name(), ring.error().message.c_str());
            interface_.tap = create_sync_frame_io(std::move(opened));
        }
    }
    TRY(receiver_.reserve());
    update_rate_limiters(config.receive_limiter, config.send_limiter);

    features_ = kNetFeatures;
    if (interface_.tap->has_uso()) features_ |= kNetUsoFeatures;
    if (config.mac) features_ |= net_feature(VIRTIO_NET_F_MAC);
    if (config.mtu) features_ |= net_feature(VIRTIO_NET_F_MTU);
    return {};
}

void Net::update_rate_limiters(const RateLimiterConfig& receive, const RateLimiterConfig& send) {
    receiver_.limiter().update(receive);
    transmitter_.limiter().update(send);
}

// ---- what the driver sees ----

std::span<const uint16_t> Net::queue_max_sizes() const {
    return kQueueSizes;
}

void Net::read_config(uint32_t offset, std::span<std::byte> data) {
    virtio_net_config space{};
    if (const auto& mac = interface_.config.mac) std::copy(mac->begin(), mac->end(), space.mac);
    space.mtu = interface_.config.mtu.value_or(0);
    copy_config(space, offset, data);
}

// ---- life ----

Result<void> Net::activate(Activation activation) {
    if (auto set = interface_.tap->set_offloads(tap_offloads(activation.features)); !set) {
        ++interface_.counters.activate_fails;
        return set;
    }
    interface_.queues.activate(activation);
    receiver_.activate();
    if (!interface_.queues.paused()) interface_.watch_tap();
    return {};
}

// Nothing is in flight between two calls to this device; frames and buffers in hand are given up.
void Net::reset(std::move_only_function<void()> drained) {
    abandon();
    interface_.queues.deactivate();
    // Frames that arrive from now on may be for another driver, which can do less.
    if (auto set = interface_.tap->set_offloads(0); !set) LOG_LIMITED("%s: %s", name(), set.error().message.c_str());
    drained();
}

void Net::pause(std::move_only_function<void()> paused) {
    if (interface_.queues.serving()) {
        transmitter_.finish();
        receiver_.finish();
        interface_.queues.publish();
    }
    interface_.queues.pause();
    interface_.watch.stop();  // the tap holds what arrives meanwhile
    interface_.responder.stop();
    paused();
}

void Net::resume() {
    interface_.queues.resume();
    if (!interface_.queues.serving()) return;
    receiver_.resume();
    interface_.watch_tap();
    serve();
}

// Frames that waited are lost, as on any network.
void Net::save(RecordWriter& writer) const {
    {
        const auto leaf = writer.leaf(RateLimiter::kRecord, kReceiveQueue);
        receiver_.limiter().save(writer);
    }
    const auto leaf = writer.leaf(RateLimiter::kRecord, kSendQueue);
    transmitter_.limiter().save(writer);
}

Result<void> Net::restore(RecordReader& reader) {
    RecordReader receive = TRY(reader.record(RateLimiter::kRecord, kReceiveQueue));
    TRY(receiver_.limiter().restore(receive));
    TRY(receive.finish());
    RecordReader transmit = TRY(reader.record(RateLimiter::kRecord, kSendQueue));
    TRY(transmitter_.limiter().restore(transmit));
    return transmit.finish();
}

void Net::close() {
    abandon();
    interface_.queues.deactivate();
    interface_.tap->close();
}

void Net::abandon() {
    transmitter_.abandon();
    receiver_.abandon();
    interface_.watch.stop();
    interface_.responder.stop();
}

// ---- a turn ----

void Net::on_kick(unsigned queue) {
    if (!interface_.queues.serving()) return;
    NetCounters& counters = interface_.counters;
    if (queue == kReceiveQueue) ++counters.rx_queue_event_count;
    if (queue == kSendQueue) {
        ++counters.tx_queue_event_count;
        if (!interface_.queues[kSendQueue].has_available()) ++counters.no_tx_avail_buffer;
    }
    serve();
}

// Every frame that arrives is an event, also where nothing can be done about it. After a few of those the tap is left
// alone until something can.
void Net::on_ready(uint32_t events) {
    const bool idle = receiver_.waits_for_buffers() && !transmitter_.blocked();
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
        ++interface_.counters.rx_tap_event_count;
        receiver_.on_tap_readable();
    }
    if (idle) interface_.watch.count_idle_event();
    transmitter_.on_tap_writable();  // not every kernel says EPOLLOUT where both are true
    serve();
}

bool Net::poll() {
    return serve();
}

bool Net::arm() {
    if (!interface_.queues.serving()) return false;
    const bool transmit = transmitter_.arm();
    return receiver_.arm() || transmit;
}

// True if there was anything to do.
bool Net::serve() {
    const bool transmitting = transmitter_.has_work();
    if (transmitting) transmitter_.serve();
    const bool receiving = receiver_.has_work();  // the responder may have an answer by now
    if (receiving) receiver_.serve();
    if (!interface_.queues.serving()) return false;
    for (const unsigned queue : {kReceiveQueue, kSendQueue}) {
        const char* fault = interface_.queues[queue].fault();
        if (!fault) continue;
        interface_.queues.publish();
        abandon();
        interface_.queues.set_broken(fault);
        return true;
    }
    return transmitting || receiving;
}

}  // namespace wisp::virtio
