// SPDX-License-Identifier: Apache-2.0
#include "virtio/vsock/links.h"

#include <sys/socket.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"

namespace wisp::virtio {

namespace {

// Firecracker's range of ports for host programs.
constexpr uint32_t kFirstHostPort = 1u << 30;
constexpr uint32_t kLastHostPort = (1u << 31) - 1;

uint64_t timeout_ms(VsockConnection::Timeout timeout) {
    switch (timeout) {
        case VsockConnection::Timeout::kConnect:
            return limits::kVsockConnectTimeout_ms;
        case VsockConnection::Timeout::kShutdown:
            return limits::kVsockShutdownTimeout_ms;
        case VsockConnection::Timeout::kLinger:
            return limits::kVsockLingerTimeout_ms;
        case VsockConnection::Timeout::kNone:
            break;
    }
    return 0;
}

}  // namespace

VsockLinks::VsockLinks(VsockCommon& common, std::function<void()> on_timeout)
    : common_(common),
      on_timeout_(std::move(on_timeout)),
      next_host_port_(kFirstHostPort),
      timer_(common.loop, [this] { on_timer(); }) {
    links_.resize(limits::kVsockConnections);
    for (unsigned slot = limits::kVsockConnections; slot-- > 0;) free_.push_back(static_cast<uint16_t>(slot));
}

// ---- how links come ----

VsockLink* VsockLinks::add(OwnedFd fd) {
    if (full()) return nullptr;
    const uint16_t slot = free_.back();
    free_.pop_back();
    links_[slot] = std::make_unique<VsockLink>(slot, ++generation_, parked_);
    links_[slot]->fd = std::move(fd);
    ++common_.counters.conns_added;
    return links_[slot].get();
}

void VsockLinks::open_from_guest(VsockLink& link, const VsockPacket& request) {
    link.connection = VsockConnection::from_guest(request, take_credit(link));
    set_ports(link, request.ports);
    link.timeout = link.connection->timeout();  // which update() takes away again when the connection is open
    set_deadline(link, limits::kVsockConnectTimeout_ms);
}

void VsockLinks::open_from_host(VsockLink& link, uint32_t guest_port) {
    link.connection = VsockConnection::from_host(take_credit(link));
    set_ports(link, {guest_port, choose_host_port(guest_port)});
    update(link);
}

void VsockLinks::set_ports(VsockLink& link, VsockPorts ports) {
    link.ports = ports;
    link.mapped = true;
    by_ports_[ports.key()] = &link;
}

VsockLink* VsockLinks::find(VsockPorts ports) {
    const auto found = by_ports_.find(ports.key());
    return found == by_ports_.end() ? nullptr : found->second;
}

VsockLink* VsockLinks::find_event(uint64_t event_data) {
    const uint64_t slot = static_cast<uint32_t>(event_data);
    if (slot >= links_.size() || !links_[slot] || links_[slot]->event_data() != event_data) return nullptr;
    return links_[slot].get();
}

// In turn, so that a port is not used again while packets of its last connection may be under way. One is free: there
// are fewer connections than ports.
uint32_t VsockLinks::choose_host_port(uint32_t guest_port) {
    for (;;) {
        const uint32_t port = next_host_port_;
        next_host_port_ = port == kLastHostPort ? kFirstHostPort : port + 1;
        if (!find({guest_port, port})) return port;
    }
}

// Much while there are few connections, so that none waits for credit; the least when there are many.
uint32_t VsockLinks::take_credit(VsockLink& link) {
    link.credit =
        static_cast<uint32_t>(std::min<uint64_t>(limits::kVsockCredit - limits::kVsockCreditLeast, credit_left_ / 16));
    credit_left_ -= link.credit;
    return limits::kVsockCreditLeast + link.credit;
}

// ---- after anything happened ----

bool VsockLink::wants_guest() {
    if (!connection) return false;
    if (readable && connection->lacks_credit()) connection->request_credit();
    return connection->due_packet() || (readable && connection->may_send() > 0);
}

void VsockLinks::update(VsockLink& link) {
    if (!link.connection) return;
    run_host_actions(link);
    const VsockConnection& connection = *link.connection;
    if (link.mapped && !connection.guest_knows()) {
        by_ports_.erase(link.ports.key());
        link.mapped = false;
    }
    if (connection.phase() == VsockConnection::Phase::kGone) return release(link);
    if (connection.timeout() != link.timeout) {
        link.timeout = connection.timeout();
        if (link.timeout == VsockConnection::Timeout::kNone)
            link.deadline_ns = 0;
        else
            set_deadline(link, timeout_ms(link.timeout));
    }
    if (link.wants_guest()) work.push_back(link);
}

void VsockLinks::run_host_actions(VsockLink& link) {
    using Action = VsockConnection::HostAction;
    for (;;) {
        switch (link.connection->take_host_action()) {
            case Action::kNone:
                return;
            case Action::kSayOk: {
                const std::string line = format("OK %u\n", link.ports.host);
                const iovec part{const_cast<char*>(line.data()), line.size()};
                if (common_.sockets.send(link.fd.get(), {&part, 1}) != static_cast<ssize_t>(line.size()))
                    drop_data(link);
                break;
            }
            case Action::kShutdownRead:
                shutdown(link.fd.get(), SHUT_RD);
                break;
            case Action::kShutdownWrite:
                shutdown(link.fd.get(), SHUT_WR);
                break;
            case Action::kClose:
                link.stop_connecting();
                link.fd.reset();
                link.readable = false;
                break;
        }
    }
}

void VsockLinks::drop_data(VsockLink& link) {
    if (!link.outbox.empty()) ++common_.counters.tx_flush_fails;
    link.outbox.clear(common_.queues.active() ? &common_.queues[VsockCommon::kTx] : nullptr);
    if (link.connection) link.connection->on_host_shut_receive();
}

// ---- deadlines ----

void VsockLinks::set_deadline(VsockLink& link, uint64_t delay_ms) {
    link.deadline_ns = monotonic_ns() + delay_ms * 1'000'000;
    if (timer_.armed() && earliest_ns_ <= link.deadline_ns) return;
    earliest_ns_ = link.deadline_ns;
    timer_.arm(delay_ms * 1'000'000);
}

void VsockLinks::on_timer() {
    const uint64_t now_ns = monotonic_ns();
    for (const auto& link : links_)
        if (link && link->deadline_ns != 0 && link->deadline_ns <= now_ns) expire(*link);
    arm_timer();
    on_timeout_();
}

void VsockLinks::expire(VsockLink& link) {
    link.deadline_ns = 0;
    ++common_.counters.conns_killed;
    if (!link.connection) {
        LOG_LIMITED("vsock: a program that connected to %s did not send its CONNECT line in time",
                    common_.config.uds_path.c_str());
        return release(link);
    }
    link.connection->on_timeout();
    if (link.connection->phase() == VsockConnection::Phase::kGone && !link.outbox.empty()) drop_data(link);
    update(link);
}

void VsockLinks::arm_timer() {
    earliest_ns_ = UINT64_MAX;
    for (const auto& link : links_)
        if (link && link->deadline_ns) earliest_ns_ = std::min(earliest_ns_, link->deadline_ns);
    if (earliest_ns_ == UINT64_MAX) return;
    const uint64_t now_ns = monotonic_ns();
    timer_.arm(earliest_ns_ > now_ns ? earliest_ns_ - now_ns : 0);
}

// ---- how links go ----

void VsockLinks::release(VsockLink& link) {
    link.deadline_ns = 0;
    released_.push_back(link);
}

void VsockLinks::release_all() {
    timer_.cancel();
    for (const auto& link : links_)
        if (link) release(*link);
}

bool VsockLinks::remove_released() {
    if (released_.empty()) return false;
    while (!released_.empty()) {
        VsockLink& link = released_.pop_front();
        if (!link.outbox.empty()) drop_data(link);
        if (link.mapped) by_ports_.erase(link.ports.key());
        credit_left_ += link.credit;
        free_.push_back(link.slot);
        ++common_.counters.conns_removed;
        links_[link.slot].reset();
    }
    return true;
}

// ---- state ----

Result<void> VsockLinks::restore(RecordReader& reader) {
    next_host_port_ = TRY(reader.u32("next_host_port", kFirstHostPort, kLastHostPort));
    return {};
}

// ---- pause ----

void VsockLinks::pause() {
    paused_at_ns_ = monotonic_ns();
    timer_.cancel();
    if (!common_.queues.active()) return;
    for (const auto& link : links_)
        if (link && link->connection) link->outbox.unpark(link->connection->grant(), common_.queues[VsockCommon::kTx]);
}

void VsockLinks::resume() {
    const uint64_t missed_ns = monotonic_ns() - paused_at_ns_;
    for (const auto& link : links_)
        if (link && link->deadline_ns) link->deadline_ns += missed_ns;
    arm_timer();
}

}  // namespace wisp::virtio
