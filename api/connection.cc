// SPDX-License-Identifier: Apache-2.0
#include "api/connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>

#include "api/limits.h"

namespace wisp::api {

Result<void> Connection::start() {
    last_active_ns_ = monotonic_ns();
    watch_ = TRY(loop_.watch(fd_.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP, *this));
    serve();  // what came before the watch is no edge
    return {};
}

void Connection::on_ready(uint32_t) {
    serve();
}

void Connection::close() {
    if (closed()) return;
    watch_.reset();
    shutdown(fd_.get(), SHUT_RDWR);  // so that the client knows, even while the loop's ring still holds the socket
    fd_.reset();
    stalled_since_ns_ = 0;
    if (std::exchange(fatal_, false)) host_.on_fatal_answer_sent();
    host_.on_closed(*this);
}

void Connection::answer(const Response& response) {
    waiting_ = false;
    if (closed()) return;
    fatal_ = response.fatal;
    close_after_output_ = response.fatal || !keep_alive_;
    output_ = serialize(response, !close_after_output_);
    if (!serving_) serve();
}

/// Goes on for as long as it can without waiting for the client, the host, or an answer.
void Connection::serve() {
    if (serving_ || closed()) return;
    serving_ = true;
    unsigned turns = 0;
    while (!closed() && flush()) {
        if (close_after_output_) {
            close();
        } else if (turns++ == kServeBudget) {
            serve_again_.ring();  // the loop's other work has its turn
            break;
        } else if (waiting_ || !read_request()) {
            break;
        }
    }
    serving_ = false;
    if (!closed()) note_stall();
}

/// True if there is something to go on with; false if the client must send more.
bool Connection::read_request() {
    if (input_.empty()) return receive();  // (to the parser, no bytes are the end of the stream)
    std::string_view bytes = input_;
    const RequestReader::Step step = reader_.read(bytes);
    input_.erase(0, input_.size() - bytes.size());
    switch (step) {
        case RequestReader::Step::kMore:
            return receive();
        case RequestReader::Step::kContinue:
            output_ = serialize(Response{.status = 100, .body = {}}, true);
            return true;
        case RequestReader::Step::kError:
            close_after_output_ = true;
            output_ = serialize(reader_.error(), false);
            return true;
        case RequestReader::Step::kRequest: {
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
    char chunk[kReadChunk];
    const ssize_t size = recv(fd_.get(), chunk, sizeof chunk, 0);
    if (size > 0) {
        input_.assign(chunk, static_cast<size_t>(size));
        return true;
    }
    if (size < 0 && errno == EINTR) return true;
    if (size < 0 && errno == EAGAIN) return false;
    close();  // the client has said all, and got all its answers; or the socket is broken
    return false;
}

/// True if nothing is left to send.
bool Connection::flush() {
    while (!output_.empty()) {
        const ssize_t size = send(fd_.get(), output_.data(), output_.size(), MSG_NOSIGNAL);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) {
            if (errno != EAGAIN) close();
            return false;
        }
        output_.erase(0, static_cast<size_t>(size));
    }
    return true;
}

void Connection::note_stall() {
    const bool owes = !output_.empty() || reader_.in_request();
    if (!owes) {
        stalled_since_ns_ = 0;
    } else if (stalled_since_ns_ == 0) {
        stalled_since_ns_ = monotonic_ns();
        host_.on_stall();
    }
}

}  // namespace wisp::api
