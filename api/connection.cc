// SPDX-License-Identifier: Apache-2.0
#include "api/connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "base/limits.h"

namespace wisp::api {

Result<void> Connection::start() {
    last_active_ns_ = monotonic_ns();
    watch_ = TRY(loop_.watch(fd_.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP, *this));
    serve();  // what arrived before the watch raises no edge
    return {};
}

void Connection::on_ready(uint32_t) {
    serve();
}

void Connection::close() {
    if (closed()) return;
    watch_.reset();
    shutdown(fd_.get(), SHUT_RDWR);  // the client sees the end even while the loop's ring still holds the socket
    OwnedFd socket = std::move(fd_);
    stalled_since_ns_ = 0;
    if (std::exchange(fatal_, false)) host_.on_fatal_answer_sent();
    host_.on_closed(*this, std::move(socket));
}

void Connection::answer(const Response& response) {
    waiting_ = false;
    if (closed()) return;
    fatal_ = response.fatal;
    close_after_output_ = response.fatal || !keep_alive_;
    send_next(http::serialize(response, close_after_output_ ? http::Connection::kClose : http::Connection::kKeepAlive));
    if (!serving_) serve();
}

/// Continues until it must wait for the client, for the host, or for an answer.
void Connection::serve() {
    if (serving_ || closed()) return;
    serving_ = true;
    unsigned steps = 0;
    while (!closed() && flush()) {
        if (close_after_output_) {
            end();
            break;
        }
        if (steps++ == limits::kApiServeBudget) {
            serve_again_.ring();  // the loop's other work has its turn
            break;
        }
        if (waiting_ || !read_request()) break;
    }
    serving_ = false;
    if (!closed()) note_stall();
}

/// Closes after the last answer. A socket that is closed with unread bytes would make the client's next write fail
/// before it has read the answer, so after a refusal the client's bytes are read first.
void Connection::end() {
    if (!discard_after_output_) return close();
    if (!std::exchange(discarding_, true)) shutdown(fd_.get(), SHUT_WR);
    discard();
}

/// True if it can continue; false if the client must send more.
bool Connection::read_request() {
    if (input_.empty()) return receive();
    std::string_view bytes = input_;
    const auto step = reader_.read(bytes);
    input_.erase(0, input_.size() - bytes.size());
    switch (step) {
        case http::RequestReader::Step::kMore:
            return receive();
        case http::RequestReader::Step::kContinue: {
            http::Response response;
            response.status = 100;
            send_next(http::serialize(response, http::Connection::kKeepAlive));
            return true;
        }
        case http::RequestReader::Step::kRefused:
            close_after_output_ = discard_after_output_ = true;
            send_next(http::serialize(Response::protocol_error(reader_.refusal().reason), http::Connection::kClose));
            return true;
        case http::RequestReader::Step::kRequest: {
            Request request = reader_.take_request();
            keep_alive_ = request.keep_alive;
            waiting_ = true;
            stalled_since_ns_ = 0;
            last_active_ns_ = monotonic_ns();
            host_.handle(*this, std::move(request));
            return !waiting_;
        }
    }
    return false;
}

bool Connection::receive() {
    char chunk[limits::kApiReadChunk];
    const ssize_t size = recv(fd_.get(), chunk, sizeof chunk, 0);
    if (size > 0) {
        input_.assign(chunk, static_cast<size_t>(size));
        return true;
    }
    if (size < 0 && errno == EINTR) return true;
    if (size < 0 && errno == EAGAIN) return false;
    close();  // the client has sent all its requests and got all their answers, or the socket is broken
    return false;
}

/// Reads and drops what the client still sends.
void Connection::discard() {
    for (unsigned steps = 0; steps < limits::kApiServeBudget; ++steps) {
        char chunk[limits::kApiReadChunk];
        const ssize_t size = recv(fd_.get(), chunk, sizeof chunk, 0);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0 && errno == EAGAIN) return;
        if (size <= 0) return close();
        discarded_ += static_cast<size_t>(size);
        if (discarded_ > limits::kApiDiscard) return close();
    }
    serve_again_.ring();
}

void Connection::send_next(std::string bytes) {
    output_ = std::move(bytes);
    sent_ = 0;
}

/// True if nothing is left to send.
bool Connection::flush() {
    while (sending()) {
        const ssize_t size = send(fd_.get(), output_.data() + sent_, output_.size() - sent_, MSG_NOSIGNAL);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) {
            if (errno != EAGAIN) close();
            return false;
        }
        sent_ += static_cast<size_t>(size);
    }
    if (!output_.empty()) send_next({});
    return true;
}

void Connection::note_stall() {
    if (!sending() && !reader_.in_request() && !discarding_) {
        stalled_since_ns_ = 0;
    } else if (stalled_since_ns_ == 0) {
        stalled_since_ns_ = monotonic_ns();
        host_.on_stall();
    }
}

}  // namespace wisp::api
