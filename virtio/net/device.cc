// SPDX-License-Identifier: Apache-2.0
//
// A network interface's life: its tap, what it shows the driver, activation, reset and pause. What becomes of frames is
// in net_send.cc and net_receive.cc.
#include "virtio/net/device.h"

#include <sys/epoll.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "virtio/net/frames.h"

namespace wisp::virtio {

namespace {

constexpr uint16_t kQueueSizes[] = {limits::kMaxQueueSize, limits::kMaxQueueSize};

}  // namespace

// ---- construction ----

Net::Net(Loop& loop, NetConfig config)
    : loop_(loop),
      config_(std::move(config)),
      name_("network interface " + config_.id),
      receive_limiter_(loop,
                       [this] {
                           ++counters_.rx_event_rate_limiter_count;
                           serve();
                       }),
      send_limiter_(loop,
                    [this] {
                        ++counters_.tx_rate_limiter_event_count;
                        serve();
                    }),
      queues_(loop, *this),
      sender_(std::make_unique<Sender>()),
      receiver_(std::make_unique<Receiver>()),
      responder_timer_(loop,
                       [this] {
                           answer_due_ = true;
                           serve();
                       }),
      patience_timer_(loop, [this] { on_patience_over(); }) {}

Net::~Net() {
    forget();
}

Result<std::unique_ptr<Net>> Net::create(Loop& loop, NetConfig config, std::unique_ptr<FrameIo> io) {
    std::unique_ptr<Net> net(new Net(loop, std::move(config)));
    TRY_CONTEXT(net->name_, net->open(std::move(io)));
    return net;
}

Result<void> Net::open(std::unique_ptr<FrameIo> io) {
    if (io) {
        io_ = std::move(io);
    } else {
        Tap tap = TRY(Tap::open(config_.tap));
        if (auto ring = create_uring_frame_io(tap)) {
            io_ = *std::move(ring);
        } else {
            LOG_WARNING("%s: frames go by plain system calls: %s", name_.c_str(), ring.error().message.c_str());
            io_ = create_sync_frame_io(std::move(tap));
        }
    }
    Receiver& receiver = *receiver_;
    receiver.memory =
        TRY(Mapping::anonymous(receiver.slots.size() * Slot::kRoom, limits::kPageSize, 0, "frames that are kept"));
    for (size_t i = 0; i < receiver.slots.size(); ++i)
        receiver.slots[i].memory = receiver.memory.data() + i * Slot::kRoom;
    receiver.buffers.reserve();
    receiver.parts.resize(limits::kNetSlices + receiver.slots.size());
    receive_limiter_.update(config_.receive_limiter);
    send_limiter_.update(config_.send_limiter);

    features_ = kNetFeatures;
    if (io_->has_uso()) features_ |= kNetUsoFeatures;
    if (config_.mac) features_ |= net_feature(VIRTIO_NET_F_MAC);
    if (config_.mtu) features_ |= net_feature(VIRTIO_NET_F_MTU);
    return {};
}

void Net::update_rate_limiters(const RateLimiterConfig& receive, const RateLimiterConfig& send) {
    receive_limiter_.update(receive);
    send_limiter_.update(send);
}

// ---- what the driver sees ----

std::span<const uint16_t> Net::queue_max_sizes() const {
    return kQueueSizes;
}

void Net::read_config(uint32_t offset, std::span<std::byte> data) {
    virtio_net_config space{};
    if (config_.mac) std::copy(config_.mac->begin(), config_.mac->end(), space.mac);
    space.mtu = config_.mtu.value_or(0);
    copy_config(space, offset, data);
}

// ---- life ----

Result<void> Net::activate(Activation activation) {
    if (auto set = io_->set_offloads(tap_offloads(activation.features)); !set) {
        ++counters_.activate_fails;
        return set;
    }
    queues_.activate(activation);
    receiver_->merge = activation.features & net_feature(VIRTIO_NET_F_MRG_RXBUF);
    watch_tap();
    return {};
}

void Net::on_kick(unsigned queue) {
    if (!queues_.activated()) return;
    if (queue == kReceiveQueue) ++counters_.rx_queue_event_count;
    if (queue == kSendQueue) {
        ++counters_.tx_queue_event_count;
        if (!send_queue().has_available()) ++counters_.no_tx_avail_buffer;
    }
    serve();
}

// Every frame that arrives is an event, also where nothing can be done about it. After a few of those the tap is left
// alone until something can.
void Net::watch_tap() {
    idle_events_ = 0;
    if (watch_.active()) return;
    if (auto watch = loop_.watch(io_->fd(), EPOLLIN | EPOLLOUT, *this))
        watch_ = *std::move(watch);
    else
        set_broken(watch.error().message.c_str());
}

void Net::on_ready(uint32_t events) {
    const bool idle = tap_readable_ && !sender_->blocked && (needs_buffers_ || queues_.paused());
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
        ++counters_.rx_tap_event_count;
        tap_readable_ = true;
    }
    if (idle && ++idle_events_ == limits::kNetIdleEvents) watch_.reset();
    // Not every kernel says EPOLLOUT where both are true.
    if (sender_->blocked && queues_.serving()) flush_frames();
    serve();
}

bool Net::poll() {
    const bool sending = may_send() && send_queue().has_available();
    const bool receiving = may_receive();
    if (sending) send_frames();
    if (receiving) receive_frames();
    return sending || receiving;
}

bool Net::arm() {
    if (!queues_.serving()) return false;
    bool any = may_receive();
    if (may_send()) any |= queues_.enable_notifications(kSendQueue);
    if (needs_buffers_) any |= queues_.enable_notifications(kReceiveQueue);
    return any;
}

void Net::serve() {
    if (may_send()) send_frames();
    if (may_receive()) receive_frames();
}

// Tells the driver once for all that was done.
void Net::publish() {
    if (queues_.active()) queues_.publish();
}

void Net::set_broken(const char* reason) {
    publish();
    forget();
    queues_.set_broken(reason);
}

// Nothing is in flight between two calls to this device; what is in hand is given up.
void Net::reset(std::move_only_function<void()> drained) {
    forget();
    watch_.reset();
    queues_.deactivate();
    tap_readable_ = false;  // the next watch tells anew
    // What arrives from now on may be for another driver, which can do less.
    if (auto set = io_->set_offloads(0); !set) LOG_LIMITED("%s: %s", name_.c_str(), set.error().message.c_str());
    drained();
}

void Net::close() {
    forget();
    watch_.reset();
    queues_.deactivate();
    io_->close();
}

void Net::forget() {
    for (SentFrame& frame : sender_->frames) frame.chain.abandon();
    sender_->count = 0;
    sender_->slices_used = 0;
    sender_->blocked = false;
    receiver_->buffers.abandon();
    receiver_->kept_begin = receiver_->kept_end = 0;
    receiver_->slots[Receiver::kAnswer].kept = 0;
    receiver_->patience_over = false;
    needs_buffers_ = answer_due_ = false;
    patience_timer_.cancel();
    responder_timer_.cancel();
}

void Net::pause(std::move_only_function<void()> paused) {
    if (queues_.serving()) {
        let_go_of_sent();
        receiver_->buffers.give_back(receive_queue());
        publish();
    }
    queues_.pause();
    needs_buffers_ = receiver_->patience_over = false;
    patience_timer_.cancel();
    responder_timer_.cancel();
    paused();
}

void Net::resume() {
    queues_.resume();
    if (!queues_.serving()) return;
    if (config_.responder) answer_due_ = true;
    watch_tap();
    serve();
}

void Net::arm_responder() {
    if (!config_.responder) return;
    const uint64_t deadline_ns = config_.responder->deadline_ns();
    const uint64_t now_ns = monotonic_ns();
    answer_due_ = deadline_ns <= now_ns;
    if (answer_due_ || deadline_ns == UINT64_MAX)
        responder_timer_.cancel();
    else
        responder_timer_.arm(deadline_ns - now_ns);
}

}  // namespace wisp::virtio
