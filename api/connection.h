// SPDX-License-Identifier: Apache-2.0
//
// Connection: one client of the API. It reads a request, waits for its answer, sends the answer, and only then reads
// the next request; what the client sends meanwhile stays in its socket. So it holds one request or one answer.
//
// Its bytes come from a client that may be hostile: http::RequestReader bounds them.
//
// Threads: control's.
#pragma once

#include <string>

#include "api/message.h"
#include "base/loop.h"
#include "http/request_reader.h"

namespace wisp::api {

class Connection;

/// What a connection needs of its server.
class ConnectionHost {
public:
    /// Answers a request, by Connection::answer(), at once or later.
    virtual void handle(Connection& connection, Request request) = 0;
    /// Connection::stalled_since_ns() has begun to count.
    virtual void on_stall() = 0;
    /// The connection is over, and its socket is shut down. The host destroys the connection in a later turn of the
    /// loop.
    virtual void on_closed(Connection& connection, OwnedFd socket) = 0;
    /// A fatal answer has been sent, or cannot be.
    virtual void on_fatal_answer_sent() = 0;

protected:
    ~ConnectionHost() = default;
};

class Connection final : public Watcher {
public:
    /// `max_body`: bytes of a request.
    Connection(Loop& loop, ConnectionHost& host, OwnedFd fd, size_t max_body)
        : loop_(loop),
          host_(host),
          fd_(std::move(fd)),
          reader_({limits::kHttpRequestLine, limits::kHttpHead, max_body}),
          serve_again_(loop, [this] { serve(); }) {}

    Result<void> start();

    /// The answer to the request that is being handled.
    void answer(const Response& response);
    void close();

    bool closed() const { return !fd_.valid(); }
    /// Between requests, with nothing to receive or to send.
    bool idle() const { return !waiting_ && !sending() && !reader_.in_request() && !discarding_; }
    /// CLOCK_MONOTONIC of the last request, or of the start.
    uint64_t last_active_ns() const { return last_active_ns_; }
    /// CLOCK_MONOTONIC of when it began to wait for the client to send the rest of a request or to take an answer;
    /// 0 where it does not wait.
    uint64_t stalled_since_ns() const { return stalled_since_ns_; }

private:
    void on_ready(uint32_t events) override;
    void serve();
    void end();
    bool read_request();
    bool receive();
    void discard();
    void send_next(std::string bytes);
    bool flush();
    bool sending() const { return sent_ < output_.size(); }
    void note_stall();

    Loop& loop_;
    ConnectionHost& host_;
    OwnedFd fd_;
    Watch watch_;
    http::RequestReader reader_;
    Doorbell serve_again_;
    std::string input_;   ///< received and not read yet: less than one chunk
    std::string output_;  ///< to be sent, from byte sent_ on
    size_t sent_ = 0;
    size_t discarded_ = 0;  ///< bytes read and dropped after a refusal
    uint64_t last_active_ns_ = 0;
    uint64_t stalled_since_ns_ = 0;
    bool waiting_ = false;               ///< for an answer
    bool serving_ = false;               ///< serve() is running
    bool close_after_output_ = false;    ///< the answer that is being sent is the last one
    bool discard_after_output_ = false;  ///< the client may still be sending what was refused
    bool discarding_ = false;            ///< all is sent; what the client still sends is dropped until it closes
    bool fatal_ = false;
    bool keep_alive_ = true;
};

}  // namespace wisp::api
