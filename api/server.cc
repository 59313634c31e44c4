// SPDX-License-Identifier: Apache-2.0
#include "api/server.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>

#include "api/limits.h"
#include "base/check.h"
#include "base/log.h"

namespace wisp::api {

namespace {

constexpr uint64_t kStallCheck_ns = 1'000'000'000;
// Connections that wait to be accepted: a client that finds no room is told EAGAIN at once.
constexpr unsigned kBacklog = 1024;

}  // namespace

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
    server->listener_ = TRY_CONTEXT("API socket", UnixListener::create(std::move(path), kBacklog));
    server->watch_ = TRY(loop.watch(server->listener_->fd(), EPOLLIN, *server));
    LOG_INFO("Listening on API socket (\"%s\").", server->listener_->path().c_str());
    LOG_INFO("API server started.");
    return server;
}

Server::~Server() = default;

// A client that comes and goes fast enough would keep us here, and nothing else on the loop would get its turn: not
// even the ends of its own connections, whose places in the loop would run out. Each of its connections is an event, so
// what counts is the turn.
void Server::on_ready(uint32_t) {
    if (std::exchange(turn_, loop_.turn_number()) != loop_.turn_number()) accepts_left_ = kMaxAcceptsPerTurn;
    while (accepts_left_ > 0) {
        --accepts_left_;
        if (!accept_one()) return;
    }
    accept_again_.ring();
}

/// True if there may be another one.
bool Server::accept_one() {
    UnixSocket client = accept_unix(listener_->fd());
    if (client.error) {
        if (client.error == ECONNABORTED) return true;
        if (client.error != EMFILE && client.error != ENFILE) return false;
        // The connection stays in the backlog, and is no new edge: try again when a descriptor may be free.
        if (evict_idle()) return true;
        watch_stalled();
        return false;
    }
    if (connections_.size() >= kMaxConnections && !evict_idle()) {
        LOG_LIMITED("API: a connection was refused, %zu are open and busy", connections_.size());
        return true;
    }
    connections_.emplace_back(new Connection(loop_, *this, std::move(client.fd), max_body_));
    Connection& connection = *connections_.back();
    if (auto started = connection.start(); !started) {
        LOG_LIMITED("API: a connection was refused: %s", started.error().message.c_str());
        connection.close();
    }
    return true;
}

/// Makes room for a newcomer: the client that has been silent for longest goes.
bool Server::evict_idle() {
    Connection* oldest = nullptr;
    for (const auto& connection : connections_)
        if (connection->idle() && (!oldest || connection->last_active_ns() < oldest->last_active_ns()))
            oldest = connection.get();
    if (oldest) oldest->close();
    return oldest != nullptr;
}

void Server::watch_stalled() {
    if (!stall_timer_.armed()) stall_timer_.arm(kStallCheck_ns);
}

void Server::check_stalled() {
    const uint64_t now = monotonic_ns();
    bool any = false;
    std::vector<Connection*> late;
    for (const auto& connection : connections_) {
        const uint64_t since = connection->stalled_since_ns();
        any |= since != 0;
        if (since != 0 && now - since > kStallTimeout_ns) late.push_back(connection.get());
    }
    for (Connection* connection : late) connection->close();
    on_ready(EPOLLIN);
    if (any) watch_stalled();
}

void Server::handle(Connection& connection, Request request) {
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

void Server::on_closed(Connection& connection) {
    for (Waiting& waiting : waiting_)
        if (waiting.connection == &connection) waiting.connection = nullptr;
    // Of a client that has gone, only the request that is being handled still counts.
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
