// SPDX-License-Identifier: Apache-2.0
#include "virtio/vsock/host.h"

#include <sys/epoll.h>

#include "base/check.h"
#include "base/log.h"
#include "virtio/vsock/connect_line.h"

namespace wisp::virtio {

namespace {

constexpr int kEventsAtOnce = 64;
constexpr size_t kPartsAtOnce = 256;
constexpr uint64_t kListenerEvent = UINT64_MAX;
constexpr uint64_t kNsPerMs = 1'000'000;

// Up to `count` of a list, taken out of it: so that what goes back to its end waits for the next turn.
template <class List>
void take_some(List& from, List& to, unsigned count) {
    for (; count > 0 && !from.empty(); --count) to.push_back(from.pop_front());
}

}  // namespace

VsockHost::VsockHost(VsockCommon& common, VsockLinks& links, std::function<void()> on_ready)
    : common_(common),
      links_(links),
      on_ready_(std::move(on_ready)),
      connect_timer_(common.loop, [this] { retry_connects(); }),
      stall_timer_(common.loop, [this] { retry_stalled(); }),
      accept_timer_(common.loop, [this] { take_events(); }) {}

Result<void> VsockHost::open(std::shared_ptr<UnixListener> listener) {
    listener_ = std::move(listener);
    const std::string& path = common_.config.uds_path;
    if (!listener_)
        listener_ =
            std::make_shared<UnixListener>(TRY_CONTEXT("uds_path", UnixListener::create(path, limits::kVsockBacklog)));
    epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
    if (!epoll_.valid()) return fail_errno("cannot create an epoll instance");
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    event.data.u64 = kListenerEvent;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener_->fd(), &event) < 0)
        return fail_errno("cannot watch %s", path.c_str());
    watch_ = TRY(common_.loop.watch(epoll_.get(), EPOLLIN, on_events_));
    return {};
}

void VsockHost::start() {
    may_accept_ = true;
    if (!connecting_.empty()) connect_timer_.arm(limits::kVsockConnectRetry_ms * kNsPerMs);
    if (!stalled_.empty()) stall_timer_.arm(limits::kVsockStallRetry_ms * kNsPerMs);
    take_events();
}

void VsockHost::stop() {
    connect_timer_.cancel();
    stall_timer_.cancel();
    accept_timer_.cancel();
}

// ---- events ----

void VsockHost::on_events(uint32_t) {
    take_events();
}

void VsockHost::take_events() {
    if (!common_.queues.serving()) return;
    epoll_event events[kEventsAtOnce];
    static constexpr timespec kAtOnce{};
    int count;
    do {
        count = epoll_pwait2(epoll_.get(), events, kEventsAtOnce, &kAtOnce, nullptr);
        for (int i = 0; i < count; ++i) {
            common_.loop.budget().take(0);
            if (events[i].data.u64 == kListenerEvent)
                may_accept_ = true;
            else if (VsockLink* link = links_.find_event(events[i].data.u64))
                on_link_ready(*link, events[i].events);
        }
        events_left_ = count == kEventsAtOnce;
    } while (events_left_ && common_.loop.budget().left());
    if (may_accept_) accept_all();
    on_ready_();
}

void VsockHost::on_link_ready(VsockLink& link, uint32_t events) {
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) link.readable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) link.ending = true;
    if (!link.connection) return read_line(link);
    if ((events & EPOLLOUT) && !link.writable) {
        link.writable = true;
        if (!link.outbox.empty()) links_.dirty.push_back(link);
    }
    if (events & EPOLLHUP) links_.drop_data(link);
    links_.update(link);
}

bool VsockHost::watch(VsockLink& link) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.u64 = link.event_data();
    return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, link.fd.get(), &event) == 0;
}

// ---- programs that connect ----

void VsockHost::accept_all() {
    do may_accept_ = accept_one();
    while (may_accept_ && !accept_timer_.armed() && common_.loop.budget().left());
}

// False where no program waits.
bool VsockHost::accept_one() {
    UnixSocket accepted = accept_unix(listener_->fd());
    if (accepted.error == EAGAIN) return false;
    common_.loop.budget().take(0);
    if (accepted.error == ECONNABORTED) return true;
    const char* const path = common_.config.uds_path.c_str();
    if (!accepted.fd.valid()) {
        ++common_.counters.muxer_event_fails;
        LOG_LIMITED("vsock: cannot accept a connection to %s: %s", path, errno_text(accepted.error).c_str());
        accept_timer_.arm(limits::kVsockAcceptRetry_ms * kNsPerMs);
        return true;
    }
    VsockLink* const link = links_.add(std::move(accepted.fd));
    if (!link) {  // closed, so that the program sees it
        LOG_LIMITED("vsock: a connection to %s closed: there are %u already", path, limits::kVsockConnections);
        return true;
    }
    if (watch(*link))
        links_.set_deadline(*link, limits::kVsockLineTimeout_ms);
    else
        links_.release(*link);
    return true;
}

// What has come is taken as it comes: one system call for a line that comes as a whole.
void VsockHost::read_line(VsockLink& link) {
    using State = VsockConnectLine::State;
    VsockConnectLine line{State::kIncomplete};
    bool all = false;  // all that there was has been read
    while (line.state == State::kIncomplete && !all) {
        const iovec room{link.line.data() + link.line_size, link.line.size() - link.line_size};
        const Received received = common_.sockets.receive(link.fd.get(), {&room, 1});
        if (received.size == -EAGAIN) return;
        if (is_shortage(received.size)) return retry_read(link);
        if (received.size <= 0) return links_.release(link);
        link.line_size += static_cast<size_t>(received.size);
        all = static_cast<size_t>(received.size) < room.iov_len && !received.more;
        line = parse_vsock_connect_line({link.line.data(), link.line_size});
    }
    if (line.state == State::kIncomplete) return;
    if (line.state == State::kWrong) {
        ++common_.counters.muxer_event_fails;
        LOG_LIMITED("vsock: a program that connected to %s did not send CONNECT <port>",
                    common_.config.uds_path.c_str());
        return links_.release(link);
    }
    link.early = std::string_view(link.line.data(), link.line_size).substr(line.size);
    link.readable = !all || !link.early.empty() || link.ending;  // else an event tells of more
    links_.open_from_host(link, line.port);
}

Received VsockHost::read(VsockLink& link, std::span<const iovec> parts) {
    if (link.early.empty()) return common_.sockets.receive(link.fd.get(), parts);
    size_t size = 0;
    for (const iovec& part : parts) {
        const size_t copied =
            WritableSlice::over(part.iov_base, part.iov_len).copy_from(std::as_bytes(std::span(link.early)));
        link.early.remove_prefix(copied);
        size += copied;
    }
    return {static_cast<ssize_t>(size), true};
}

// ---- sockets that the guest connects to ----

void VsockHost::connect(VsockLink& link) {
    const std::string path = common_.config.uds_path + format("_%u", link.ports.host);
    UnixSocket connected = common_.sockets.connect(path);
    if (connected.error == EAGAIN) {  // its backlog is full: until the deadline
        connecting_.push_back(link);
        if (!connect_timer_.armed()) connect_timer_.arm(limits::kVsockConnectRetry_ms * kNsPerMs);
        return;
    }
    link.fd = std::move(connected.fd);
    if (link.fd.valid() && watch(link)) {
        link.connection->on_host_connected();
    } else {
        LOG_DEBUG("vsock: guest port %u: cannot connect to %s: %s", link.ports.guest, path.c_str(),
                  errno_text(connected.error).c_str());
        link.connection->on_host_refused();
    }
    links_.update(link);
}

void VsockHost::retry_connects() {
    VsockConnectingList now;
    take_some(connecting_, now, limits::kVsockRetriesAtOnce);
    while (!now.empty()) connect(now.pop_front());
    if (!connecting_.empty()) connect_timer_.arm(limits::kVsockConnectRetry_ms * kNsPerMs);
    on_ready_();
}

// ---- data for the host ----

void VsockHost::write_dirty() {
    while (common_.queues.serving() && !links_.dirty.empty() && common_.queues.batch_has_room(VsockCommon::kTx))
        write(links_.dirty.pop_front());
}

void VsockHost::write(VsockLink& link) {
    while (link.fd.valid() && link.writable && !link.outbox.empty()) {
        iovec room[kPartsAtOnce];
        size_t asked = 0;
        const ssize_t written = common_.sockets.send(link.fd.get(), link.outbox.next_parts(room, asked));
        if (written < 0 && written != -EAGAIN && !is_shortage(written)) {
            if (written != -EPIPE && written != -ECONNRESET) ++common_.counters.tx_write_fails;
            links_.drop_data(link);
            break;
        }
        if (is_shortage(written))
            LOG_LIMITED("vsock: guest port %u: the host is short of memory: its data is tried again", link.ports.guest);
        link.writable = written == static_cast<ssize_t>(asked);
        // The socket is full, and an event will tell; or the host is short of memory, and none will.
        if (!link.writable) retry_later(link);
        if (written <= 0) continue;
        const auto size = static_cast<uint32_t>(written);
        common_.queues.charge(VsockCommon::kTx, size);
        link.outbox.consume(size, common_.queues[VsockCommon::kTx]);
        link.connection->on_forwarded(size);
        if (link.timeout == VsockConnection::Timeout::kLinger)
            links_.set_deadline(link, limits::kVsockLingerTimeout_ms);
    }
    links_.update(link);
}

void VsockHost::retry_read(VsockLink& link) {
    link.readable = false;
    link.read_failed = true;
    retry_later(link);
}

void VsockHost::retry_later(VsockLink& link) {
    stalled_.push_back(link);
    if (!stall_timer_.armed()) stall_timer_.arm(limits::kVsockStallRetry_ms * kNsPerMs);
}

// A socket that is still full says EAGAIN, one that has nothing to read too: a system call each.
void VsockHost::retry_stalled() {
    VsockStalledList now;
    take_some(stalled_, now, limits::kVsockRetriesAtOnce);
    while (!now.empty()) {
        VsockLink& link = now.pop_front();
        on_link_ready(link, std::exchange(link.read_failed, false) ? EPOLLIN | EPOLLOUT : EPOLLOUT);
    }
    if (!stalled_.empty()) stall_timer_.arm(limits::kVsockStallRetry_ms * kNsPerMs);
    on_ready_();
}

}  // namespace wisp::virtio
