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
    const auto bytes = std::as_bytes(std::span(&space, 1));
    for (size_t i = 0; i < data.size(); ++i) data[i] = offset + i < bytes.size() ? bytes[offset + i] : std::byte{0};
}

// ---- life ----

Result<void> Vsock::activate(Activation activation) {
    CHECK(activity_ == Activity::kInactive);
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
    activation_.emplace(activation);
    parked_->set_descriptors(queue(kTx).size() / 4);
    activity_ = Activity::kActive;
    armed_ = true;  // as a driver finds it
    may_accept_ = true;
    polling_ = loop_.poll(*this);
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
    activity_ = Activity::kInactive;
    release_all();
    bury();
    polling_.reset();
    activation_.reset();
    event_due_ = false;
    drained();
}

// What is parked goes into its connection's buffer: then the queues are as a snapshot needs them.
void Vsock::pause(std::move_only_function<void()> paused) {
    paused_ = true;
    paused_at_ns_ = monotonic_ns();
    timer_.cancel();
    retry_timer_.cancel();
    if (activity_ == Activity::kActive) {
        for (const auto& link : links_)
            if (link) copy_parked(*link);
        publish();
    }
    paused();
}

void Vsock::resume() {
    if (!paused_) return;
    paused_ = false;
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
    activity_ = Activity::kBroken;
    activation_->interrupt.signal_needs_reset(reason);
    release_all();  // they go at the end of the turn
}

// ---- a turn ----

// What may be done in this turn of the loop: a driver that never lets a queue become empty must not hold up the rest.
void Vsock::renew_budget() {
    if (budget_.turn == loop_.turn_number()) return;
    budget_ = {loop_.turn_number(), limits::kVsockServeBudget, limits::kVsockServeBudget, limits::kVsockServeBytes,
               limits::kVsockServeBytes};
}

// Does all there is to do, within the turn's budget; what is left comes back by poll() and arm().
void Vsock::serve() {
    if (!may_serve()) return;
    if (std::exchange(armed_, false))
        for (Queue& each : activation_->queues) each.disable_notifications();
    renew_budget();
    take_packets();
    while (may_serve() && !dirty_.empty()) flush(dirty_.pop_front());
    if (may_serve()) fill_buffers();
    if (may_serve() && event_due_) send_event();
    if (may_serve()) publish();
    bury();
}

void Vsock::publish() {
    bool wanted = false;
    for (Queue& each : activation_->queues) wanted |= each.publish();
    if (wanted) activation_->interrupt.signal_used();
}

bool Vsock::has_work() {
    return queue(kTx).has_available() || !dirty_.empty() ||
           ((!work_.empty() || !resets_.empty()) && queue(kRx).has_available()) ||
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
    if (!armed_) {
        armed_ = true;
        bool any = queue(kTx).enable_notifications();
        // New buffers are of interest only to what waits for them.
        if (!work_.empty() || !resets_.empty()) any |= queue(kRx).enable_notifications();
        if (event_due_) any |= queue(kEvents).enable_notifications();
        if (any) return true;
    }
    return has_work();
}

}  // namespace wisp::virtio
