// SPDX-License-Identifier: Apache-2.0
//
// The connections of a vsock device: how they come, what is due for them after anything happened, and how they go.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "base/unix_socket.h"
#include "virtio/vsock/device.h"
#include "virtio/vsock/link.h"

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

// ---- coming ----

Vsock::Link* Vsock::add_link(OwnedFd fd) {
    if (free_.empty()) return nullptr;
    const uint16_t slot = free_.back();
    free_.pop_back();
    links_[slot] = std::make_unique<Link>();
    Link& link = *links_[slot];
    link.slot = slot;
    link.generation = ++generation_;
    link.fd = std::move(fd);
    ++counters_.conns_added;
    return &link;
}

Result<void> Vsock::watch(Link& link) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.u64 = link.event_data();
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, link.fd.get(), &event) < 0)
        return fail_errno("cannot watch a connection");
    return {};
}

void Vsock::set_ports(Link& link, VsockPorts ports) {
    link.ports = ports;
    link.mapped = true;
    by_ports_[ports.key()] = &link;
}

Vsock::Link* Vsock::find(VsockPorts ports) {
    const auto found = by_ports_.find(ports.key());
    return found == by_ports_.end() ? nullptr : found->second;
}

// In turn, so that a port is not used again while something of its last connection may be under way. One is free: there
// are fewer connections than ports.
uint32_t Vsock::choose_host_port(uint32_t guest_port) {
    for (;;) {
        const uint32_t port = next_host_port_;
        next_host_port_ = port == kLastHostPort ? kFirstHostPort : port + 1;
        if (!find({guest_port, port})) return port;
    }
}

// Much while there are few connections, so that none waits for credit; the least when there are many.
uint32_t Vsock::take_credit(Link& link) {
    link.credit =
        static_cast<uint32_t>(std::min<uint64_t>(limits::kVsockCredit - limits::kVsockCreditLeast, credit_left_ / 16));
    credit_left_ -= link.credit;
    return limits::kVsockCreditLeast + link.credit;
}

// ---- after anything happened ----

// Does what a connection's state asks for. Called after each change of it.
void Vsock::update(Link& link) {
    if (!link.connection) return;
    act(link);
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
    if (wants_guest(link)) work_.push_back(link);
}

void Vsock::act(Link& link) {
    using Action = VsockConnection::HostAction;
    for (;;) {
        switch (link.connection->take_host_action()) {
            case Action::kNone:
                return;
            case Action::kSayOk: {
                std::string line = format("OK %u\n", link.ports.host);
                const iovec part{line.data(), line.size()};
                if (send_some(link.fd.get(), {&part, 1}) != static_cast<ssize_t>(line.size())) lose_data(link);
                break;
            }
            case Action::kShutdownRead:
                shutdown(link.fd.get(), SHUT_RD);
                break;
            case Action::kShutdownWrite:
                shutdown(link.fd.get(), SHUT_WR);
                break;
            case Action::kClose:
                static_cast<ListNode<Link, Retry>&>(link).leave();
                link.fd.reset();
                link.readable = false;
                break;
        }
    }
}

// ---- time ----

void Vsock::set_deadline(Link& link, uint64_t delay_ms) {
    link.deadline_ns = monotonic_ns() + delay_ms * 1'000'000;
    if (timer_.armed() && earliest_ns_ <= link.deadline_ns) return;
    earliest_ns_ = link.deadline_ns;
    timer_.arm(delay_ms * 1'000'000);
}

void Vsock::on_timer() {
    const uint64_t now = monotonic_ns();
    for (const auto& link : links_) {
        if (!link || link->deadline_ns == 0 || link->deadline_ns > now) continue;
        link->deadline_ns = 0;
        ++counters_.conns_killed;
        if (link->connection) {
            link->connection->on_timeout();
            if (link->connection->phase() == VsockConnection::Phase::kGone && link->has_data()) lose_data(*link);
            update(*link);
        } else {
            LOG_LIMITED("vsock: a program that connected to %s did not send its CONNECT line in time",
                        config_.uds_path.c_str());
            release(*link);
        }
    }
    arm_timer();
    serve();
}

void Vsock::arm_timer() {
    earliest_ns_ = UINT64_MAX;
    for (const auto& link : links_)
        if (link && link->deadline_ns) earliest_ns_ = std::min(earliest_ns_, link->deadline_ns);
    if (earliest_ns_ == UINT64_MAX) return;
    const uint64_t now = monotonic_ns();
    timer_.arm(earliest_ns_ > now ? earliest_ns_ - now : 0);
}

// ---- going ----

// Whoever called may still look at the link: it is taken away at the end of the turn.
void Vsock::release(Link& link) {
    link.deadline_ns = 0;
    gone_.push_back(link);
}

void Vsock::bury() {
    if (gone_.empty()) return;
    while (!gone_.empty()) {
        Link& link = gone_.pop_front();
        if (link.has_data()) lose_data(link);
        if (link.mapped) by_ports_.erase(link.ports.key());
        credit_left_ += link.credit;
        free_.push_back(link.slot);
        ++counters_.conns_removed;
        links_[link.slot].reset();
    }
    if (may_accept_ && may_serve()) accept_all();
}

void Vsock::release_all() {
    timer_.cancel();
    retry_timer_.cancel();
    resets_.clear();
    for (const auto& link : links_)
        if (link) release(*link);
}

}  // namespace wisp::virtio
