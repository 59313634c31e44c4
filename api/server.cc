// SPDX-License-Identifier: Apache-2.0
#include "api/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/check.h"
#include "base/limits.h"
#include "base/log.h"

namespace wisp::api {

Server::Server(Loop& loop, size_t max_body, Handler handler, std::function<void()> on_fatal)
    : loop_(loop),
      max_body_(max_body),
      handler_(std::move(handler)),
      on_fatal_(std::move(on_fatal)),
      stall_timer_(loop, [this] { check_stalled(); }),
      accept_again_(loop, [this] { on_ready(0); }),
      forget_closed_(loop, [this] { closed_.clear(); }) {}

Result<std::unique_ptr<Server>> Server::create(Loop& loop, std::string path, size_t max_body, Handler handler,
                                               std::function<void()> on_fatal) {
    std::unique_ptr<Server> server(new Server(loop, max_body, std::move(handler), std::move(on_fatal)));
    server->listener_ = TRY_CONTEXT("API socket", UnixListener::create(std::move(path), limits::kApiBacklog));
    for (unsigned i = 0; i < limits::kApiReserve; ++i)
        server->keep_descriptor(OwnedFd(fcntl(server->listener_->fd(), F_DUPFD_CLOEXEC, 0)));
    server->watch_ = TRY(loop.watch(server->listener_->fd(), EPOLLIN, *server));
    LOG_INFO("Listening on API socket (\"%s\").", server->listener_->path().c_str());
    LOG_INFO("API server started.");
    return server;
}

Server::~Server() = default;

// Clients that connect and close fast enough would keep this function running, and nothing else on the loop would get
// its turn, not even the ends of their own connections. Each of their connections is an event, so the bound is for the
// turn and not for the event.
void Server::on_ready(uint32_t) {
    if (std::exchange(turn_, loop_.turn_number()) != loop_.turn_number()) accepts_left_ = limits::kApiAccepts;
    while (accepts_left_ > 0) {
        --accepts_left_;
        if (!accept_one()) return;
    }
    accept_again_.ring();
}

/// True if there may be another client.
bool Server::accept_one() {
    UnixSocket client = accept_unix(listener_->fd());
    switch (client.error) {
        case 0:
            add(std::move(client.fd));
            return true;
        case ECONNABORTED:
            return true;
        case EMFILE:
        case ENFILE:
            // The kernel looks for a descriptor first, and for a client after that.
            if (!has_waiting_client()) return false;
            if (free_descriptor()) return true;
            // The client stays in the backlog and raises no further edge, so the timer looks again.
            watch_stalled();
            return false;
        default:
            return false;
    }
}

void Server::add(OwnedFd socket) {
    if (connections_.size() >= limits::kApiConnections && !evict()) {
        LOG_LIMITED("API: a connection was refused: all %zu that are open wait for an answer", connections_.size());
        const std::string answer = http::serialize(Response::too_many_connections(), http::Connection::kClose);
        (void)send(socket.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
        return;
    }
    connections_.emplace_back(new Connection(loop_, *this, std::move(socket), max_body_));
    Connection& connection = *connections_.back();
    if (auto started = connection.start(); !started) {
        LOG_LIMITED("API: a connection was refused: %s", started.error().message.c_str());
        connection.close();
    }
}

bool Server::has_waiting_client() const {
    pollfd request{listener_->fd(), POLLIN, 0};
    return poll(&request, 1, 0) == 1;
}

/// Frees a descriptor for the client that is next in the backlog.
bool Server::free_descriptor() {
    if (!std::exchange(shortage_logged_, true))
        LOG_WARNING("API: no descriptors are left (RLIMIT_NOFILE), so only a few clients are served at a time");
    if (reserve_.empty()) return evict();
    reserve_.pop_back();
    return true;
}

/// Keeps a descriptor for free_descriptor(), or closes it where enough are kept.
void Server::keep_descriptor(OwnedFd fd) {
    if (!fd.valid() || reserve_.size() >= limits::kApiReserve) return;
    reserve_.push_back(std::move(fd));
    if (reserve_.size() == limits::kApiReserve) shortage_logged_ = false;
}

/// Makes room for a new client: closes the connection that has made no progress for the longest time. A half-sent
/// request that is older than the grace goes before a client that is idle between two requests.
bool Server::evict() {
    Connection* stalled = nullptr;
    Connection* idle = nullptr;
    for (const auto& owned : connections_) {
        Connection* const connection = owned.get();
        const uint64_t since_ns = connection->stalled_since_ns();
        if (since_ns != 0 && (!stalled || since_ns < stalled->stalled_since_ns())) stalled = connection;
        if (connection->idle() && (!idle || connection->last_active_ns() < idle->last_active_ns())) idle = connection;
    }
    const bool overdue = stalled && monotonic_ns() - stalled->stalled_since_ns() > limits::kApiStallGrace_ns;
    Connection* const victim = overdue || !idle ? stalled : idle;
    if (victim) victim->close();
    return victim != nullptr;
}

void Server::watch_stalled() {
    if (!stall_timer_.armed()) stall_timer_.arm(limits::kApiStallCheck_ns);
}

void Server::check_stalled() {
    const uint64_t now = monotonic_ns();
    bool any = false;
    std::vector<Connection*> late;
    for (const auto& connection : connections_) {
        const uint64_t since = connection->stalled_since_ns();
        any |= since != 0;
        if (since != 0 && now - since > limits::kApiStallTimeout_ns) late.push_back(connection.get());
    }
    for (Connection* connection : late) connection->close();
    on_ready(EPOLLIN);
    if (any) watch_stalled();
}

// A GET is answered at once: it never waits behind an operation of the machine.
void Server::handle(Connection& connection, Request request) {
    if (request.method == http::Method::kGet) {
        bool answered = false;
        handler_(std::move(request), [&](const Response& response) {
            answered = true;
            connection.answer(response);
        });
        CHECK(answered);  // nothing of a GET happens later: the connection may be gone by then
        return;
    }
    waiting_.push_back({&connection, std::move(request)});
    run_next();
}

void Server::run_next() {
    if (running_) return;
    running_ = true;
    while (!busy_ && !waiting_.empty()) {
        busy_ = true;
        handler_(std::move(waiting_.front().request), [this](const Response& response) { on_reply(response); });
    }
    running_ = false;
}

void Server::on_reply(const Response& response) {
    CHECK(busy_);
    Connection* const connection = waiting_.front().connection;
    waiting_.pop_front();
    busy_ = false;
    if (connection)
        connection->answer(response);
    else if (response.fatal)
        on_fatal_();
    run_next();
}

void Server::on_closed(Connection& connection, OwnedFd socket) {
    keep_descriptor(std::move(socket));
    for (Waiting& waiting : waiting_)
        if (waiting.connection == &connection) waiting.connection = nullptr;
    // The requests of a closed connection are dropped, but for the one that is being handled.
    const auto first = waiting_.begin() + (busy_ ? 1 : 0);
    waiting_.erase(std::remove_if(std::min(first, waiting_.end()), waiting_.end(),
                                  [](const Waiting& waiting) { return !waiting.connection; }),
                   waiting_.end());

    const auto place = std::find_if(connections_.begin(), connections_.end(),
                                    [&](const auto& other) { return other.get() == &connection; });
    if (place == connections_.end()) return;
    closed_.push_back(std::move(*place));
    connections_.erase(place);
    forget_closed_.ring();
}

}  // namespace wisp::api
