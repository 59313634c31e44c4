// SPDX-License-Identifier: Apache-2.0
//
// A vsock device's life: what it shows the driver, activation, reset, pause; and one turn of its work.
#include "virtio/vsock/device.h"

#include <sys/epoll.h>

#include "base/check.h"
#include "base/log.h"
#include "base/unix_socket.h"
#include "virtio/vsock/link.h"

namespace wisp::virtio {

namespace {

constexpr uint32_t kFirstHostPort = 1u << 30;
constexpr unsigned kBuffersAtOnce = 64;
constexpr size_t kPartsAtOnce = 512;
constexpr size_t kSegmentsAtOnce = kPartsAtOnce + limits::kMaxQueueSize;

}  // namespace

// ---- construction ----

Vsock::Vsock(Loop& loop, VsockConfig config)
    : loop_(loop),
      config_(std::move(config)),
      queues_(loop, *this),
      next_host_port_(kFirstHostPort),
      timer_(loop, [this] { on_timer(); }),
      retry_timer_(loop, [this] { retry(); }) {
    links_.resize(limits::kVsockConnections);
    for (unsigned slot = limits::kVsockConnections; slot-- > 0;) free_.push_back(static_cast<uint16_t>(slot));
}

Vsock::~Vsock() {
    for (const auto& link : links_)
        for (Parked* parked = link ? link->first_parked : nullptr; parked; parked = parked->next)
            parked->chain.abandon();
}

Result<std::unique_ptr<Vsock>> Vsock::create(Loop& loop, VsockConfig config, std::shared_ptr<UnixListener> listener) {
    std::unique_ptr<Vsock> vsock(new Vsock(loop, std::move(config)));
    vsock->listener_ = std::move(listener);
    TRY_CONTEXT("vsock", vsock->open());
    return vsock;
}

Result<void> Vsock::open() {
    if (!listener_)
        listener_ = std::make_shared<UnixListener>(
            TRY_CONTEXT("uds_path", UnixListener::create(config_.uds_path, limits::kVsockBacklog)));
    parked_ = TRY(ParkedPool::create());
    epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
    if (!epoll_.valid()) return fail_errno("cannot create an epoll instance");
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    event.data.u64 = UINT64_MAX;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener_->fd(), &event) < 0)
        return fail_errno("cannot watch %s", config_.uds_path.c_str());
    host_watch_ = TRY(loop_.watch(epoll_.get(), EPOLLIN, on_host_));
    return {};
}

// ---- what the driver sees ----

void Vsock::read_config(uint32_t offset, std::span<std::byte> data) {
    const virtio_vsock_config space{config_.guest_cid};
    copy_config(space, offset, data);
}

// ---- life ----

Result<void> Vsock::activate(Activation activation) {
    for (const unsigned index : {kRx, kTx, kEvents})
        if (!activation.queues[index].enabled()) {
            ++counters_.activate_fails;
            return fail("queue %u is not set up", index);
        }
    // Now, as many a machine never uses its vsock.
    segments_.resize(kSegmentsAtOnce);
    parts_.reserve(kPartsAtOnce);
    buffers_.resize(kBuffersAtOnce);
    resets_.reserve(limits::kVsockResets);
    queues_.activate(activation);
    parked_->set_descriptors(queue(kTx).size() / 4);
    may_accept_ = true;
    // Host programs that came before the driver.
    if (may_serve()) take_host_events();
    return {};
}

void Vsock::on_kick(unsigned index) {
    if (index == kRx) ++counters_.rx_queue_event_count;
    if (index == kTx) ++counters_.tx_queue_event_count;
    serve();
}

void Vsock::reset(std::move_only_function<void()> drained) {
    queues_.start_drain();
    release_all();
    bury();
    queues_.deactivate();
    event_due_ = false;
    drained();
}

// What is parked goes into its connection's buffer: then the queues are as a snapshot needs them.
void Vsock::pause(std::move_only_function<void()> paused) {
    queues_.pause();
    paused_at_ns_ = monotonic_ns();
    timer_.cancel();
    retry_timer_.cancel();
    if (queues_.active()) {
        for (const auto& link : links_)
            if (link) copy_parked(*link);
        queues_.publish();
    }
    paused();
}

void Vsock::resume() {
    if (!queues_.paused()) return;
    queues_.resume();
    // No side could do anything about its deadline meanwhile.
    const uint64_t missed_ns = monotonic_ns() - paused_at_ns_;
    for (const auto& link : links_)
        if (link && link->deadline_ns) link->deadline_ns += missed_ns;
    earliest_ns_ = 0;
    arm_timer();
    if (!may_serve()) return;
    take_host_events();
    retry();
}

void Vsock::reset_transport() {
    release_all();
    bury();
    event_due_ = true;
    serve();
}

void Vsock::set_broken(const char* reason) {
    queues_.set_broken(reason);
    release_all();  // they go at the end of the turn
}

// ---- a turn ----

// Does a batch of what there is to do in each direction; what is left comes back by poll() and arm().
void Vsock::serve() {
    if (!may_serve()) return;
    for (unsigned i = 0; i < kQueueCount; ++i) queues_.disable_notifications(i);
    if ((!dirty_.empty() || queue(kTx).has_available()) && queues_.begin_batch(kTx)) {
        flush_dirty();
        take_packets();
        flush_dirty();
    }
    if (may_serve() && has_packets() && queue(kRx).has_available() && queues_.begin_batch(kRx)) fill_buffers();
    if (may_serve() && event_due_) send_event();
    if (may_serve()) queues_.publish();
    bury();
}

void Vsock::flush_dirty() {
    while (may_serve() && !dirty_.empty() && queues_.batch_has_room(kTx)) flush(dirty_.pop_front());
}

bool Vsock::has_work() {
    return queue(kTx).has_available() || !dirty_.empty() || (has_packets() && queue(kRx).has_available()) ||
           (event_due_ && queue(kEvents).has_available());
}

// The loop looks at the queues by itself, so the driver need not kick until the loop is about to sleep.
bool Vsock::poll() {
    if (!may_serve() || !has_work()) return false;
    serve();
    return true;
}

bool Vsock::arm() {
    if (!may_serve()) return false;
    bool any = queues_.enable_notifications(kTx);
    // New buffers are of interest only where something waits for them.
    if (has_packets()) any |= queues_.enable_notifications(kRx);
    if (event_due_) any |= queues_.enable_notifications(kEvents);
    if (any) return true;
    return has_work();
}

}  // namespace wisp::virtio
