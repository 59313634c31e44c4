// SPDX-License-Identifier: Apache-2.0
//
// The host's side of a vsock device: programs that connect, the sockets that the guest connects to, and the guest's
// data on its way into them.
#include <sys/epoll.h>

#include "base/check.h"
#include "base/log.h"
#include "base/unix_socket.h"
#include "virtio/cursor.h"
#include "virtio/vsock/connect_line.h"
#include "virtio/vsock/device.h"
#include "virtio/vsock/link.h"

namespace wisp::virtio {

namespace {

constexpr int kEventsAtOnce = 64;
constexpr size_t kPartsAtOnce = 256;
constexpr size_t kBytesAtOnce = 1 << 20;

}  // namespace

// ---- events ----

void Vsock::on_host_ready(uint32_t) {
    if (may_serve()) take_host_events();
}

void Vsock::take_host_events() {
    epoll_event events[kEventsAtOnce];
    static constexpr timespec kAtOnce{};
    int count;
    do {
        count = epoll_pwait2(epoll_.get(), events, kEventsAtOnce, &kAtOnce, nullptr);
        for (int i = 0; i < count; ++i) {
            if (events[i].data.u64 == UINT64_MAX) {
                may_accept_ = true;
                continue;
            }
            const auto& link = links_[static_cast<uint32_t>(events[i].data.u64)];
            if (link && link->event_data() == events[i].data.u64) on_link_ready(*link, events[i].events);
        }
    } while (count == kEventsAtOnce);
    if (may_accept_) accept_all();
    serve();
}

void Vsock::on_link_ready(Link& link, uint32_t events) {
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) link.readable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) link.ending = true;
    if (!link.connection) return read_line(link);
    if ((events & EPOLLOUT) && !link.writable) {
        link.writable = true;
        if (link.has_data()) dirty_.push_back(link);
    }
    if (events & EPOLLHUP) lose_data(link);
    update(link);
}

// ---- programs that connect ----

void Vsock::accept_all() {
    while (!free_.empty()) {
        UnixSocket accepted = accept_unix(listener_->fd());
        if (accepted.error == EAGAIN) {
            may_accept_ = false;
            return;
        }
        if (accepted.error == ECONNABORTED) continue;
        if (!accepted.fd.valid()) {
            ++counters_.muxer_event_fails;
            LOG_LIMITED("vsock: cannot accept a connection to %s: %s", config_.uds_path.c_str(),
                        errno_text(accepted.error).c_str());
            return retry_timer_.arm(limits::kVsockConnectRetry_ms * 1'000'000);
        }
        Link& link = *add_link(std::move(accepted.fd));
        if (!watch(link)) {
            release(link);
            continue;
        }
        set_deadline(link, limits::kVsockLineTimeout_ms);
    }
    // The others wait in the backlog until a connection has ended.
}

// What has come is taken as it comes: one system call for a line that comes as a whole.
void Vsock::read_line(Link& link) {
    using State = VsockConnectLine::State;
    VsockConnectLine line{State::kIncomplete};
    bool all = false;  // that there was has been read
    while (line.state == State::kIncomplete && !all) {
        const iovec room{link.line.data() + link.line_size, link.line.size() - link.line_size};
        const Received received = receive_some(link.fd.get(), {&room, 1});
        if (received.size == -EAGAIN) return;
        if (received.size <= 0) return release(link);
        link.line_size += static_cast<size_t>(received.size);
        all = static_cast<size_t>(received.size) < room.iov_len && !received.more;
        line = parse_vsock_connect_line({link.line.data(), link.line_size});
    }
    if (line.state == State::kIncomplete) return;
    if (line.state == State::kWrong) {
        ++counters_.muxer_event_fails;
        LOG_LIMITED("vsock: a program that connected to %s did not send CONNECT <port>", config_.uds_path.c_str());
        return release(link);
    }
    link.early = std::string_view(link.line.data(), link.line_size).substr(line.size);
    link.readable = !all || !link.early.empty() || link.ending;  // else an event tells of more
    link.connection = VsockConnection::from_host(take_credit(link));
    set_ports(link, {line.port, choose_host_port(line.port)});
    update(link);
}

// Data of a host program for the guest: what came with its CONNECT line first.
Received Vsock::read_host(Link& link, std::span<const iovec> parts) {
    if (link.early.empty()) return receive_some(link.fd.get(), parts);
    size_t size = 0;
    for (const iovec& part : parts) {
        const size_t copied = WritableSlice::over(part.iov_base, part.iov_len).copy_from(std::as_bytes(std::span(link.early)));
        link.early.remove_prefix(copied);
        size += copied;
    }
    return {static_cast<ssize_t>(size), true};
}

// ---- sockets that the guest connects to ----

void Vsock::connect(Link& link) {
    const std::string path = config_.uds_path + format("_%u", link.ports.host);
    UnixSocket connected = connect_unix(path);
    if (connected.error == EAGAIN) {  // its backlog is full: until the deadline
        retry_.push_back(link);
        if (!retry_timer_.armed()) retry_timer_.arm(limits::kVsockConnectRetry_ms * 1'000'000);
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
    update(link);
}

void Vsock::retry() {
    if (!may_serve()) return;
    TaggedList<Link, Retry> again;
    while (!retry_.empty()) again.push_back(retry_.pop_front());
    while (!again.empty()) connect(again.pop_front());
    if (may_accept_) accept_all();
    serve();
}

// ---- data for the host ----

// Writes what waits, as far as the socket takes it.
void Vsock::flush(Link& link) {
    while (link.fd.valid() && link.writable && link.has_data()) {
        size_t asked = 0;
        const ssize_t written = write_out(link, asked);
        if (written < 0 && written != -EAGAIN) {
            if (written != -EPIPE && written != -ECONNRESET) ++counters_.tx_write_fails;
            lose_data(link);
            break;
        }
        link.writable = written == static_cast<ssize_t>(asked);  // else the socket is full
        if (written > 0) on_written(link, static_cast<size_t>(written));
    }
    update(link);
}

ssize_t Vsock::write_out(Link& link, size_t& asked) {
    iovec parts[kPartsAtOnce];
    size_t count = 0;
    if (!link.first_parked) {
        for (const iovec& part : link.buffer.parts()) {
            if (part.iov_len == 0) continue;
            parts[count++] = part;
            asked += part.iov_len;
        }
    }
    for (const Parked* parked = link.first_parked; parked && asked < kBytesAtOnce; parked = parked->next) {
        if (count + parked->data.size() > kPartsAtOnce) break;
        for (const GuestSlice& slice : parked->data) {
            parts[count++] = slice.as_iovec();
            asked += slice.size();
        }
    }
    return send_some(link.fd.get(), {parts, count});
}

void Vsock::on_written(Link& link, size_t size) {
    link.connection->on_forwarded(static_cast<uint32_t>(size));
    if (link.timeout == VsockConnection::Timeout::kLinger) set_deadline(link, limits::kVsockLingerTimeout_ms);
    if (!link.first_parked) return link.buffer.consume(size);
    while (size > 0) {
        Parked& parked = *link.first_parked;
        const uint64_t waiting = total_size(parked.data);
        if (size < waiting) {
            SliceCursor cursor(parked.data);
            cursor.skip(size);
            parked.data = cursor.rest();
            return;
        }
        size -= waiting;
        link.first_parked = parked.next;
        queue(kTx).push(std::move(parked.chain), 0);
        parked_->give_back(parked);
    }
}

// Moves what is parked in guest memory before the bytes of the buffer.
void Vsock::copy_parked(Link& link) {
    if (!link.first_parked) return;
    VsockBuffer behind = std::move(link.buffer);
    link.buffer = {};
    const uint32_t grant = link.connection->grant();
    while (Parked* parked = link.first_parked) {
        Reader reader(parked->data);
        for (const std::span<std::byte> room : link.buffer.grow(reader.remaining(), grant)) reader.read_some(room);
        link.first_parked = parked->next;
        queue(kTx).push(std::move(parked->chain), 0);
        parked_->give_back(*parked);
    }
    for (const iovec& part : behind.parts()) {
        const auto* from = static_cast<const std::byte*>(part.iov_base);
        for (const std::span<std::byte> room : link.buffer.grow(part.iov_len, grant)) {
            if (!room.empty()) memcpy(room.data(), from, room.size());
            from += room.size();
        }
    }
}

// Nobody reads the guest's data any more.
void Vsock::lose_data(Link& link) {
    if (link.has_data()) ++counters_.tx_flush_fails;
    while (Parked* parked = link.first_parked) {
        link.first_parked = parked->next;
        if (activity_ == Activity::kActive)
            queue(kTx).push(std::move(parked->chain), 0);
        else
            parked->chain.abandon();
        parked_->give_back(*parked);
    }
    link.buffer.clear();
    if (link.connection) link.connection->on_host_deaf();
}

}  // namespace wisp::virtio
