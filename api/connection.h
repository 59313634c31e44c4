// SPDX-License-Identifier: Apache-2.0
//
// Connection: one client of the API. It reads a request, waits for its answer, sends it, and only then reads the next:
// what a client sends ahead waits in its socket. So it holds one request or one answer, never more.
//
// Threads: the loop's.
#pragma once

#include <string>

#include "api/request_reader.h"
#include "base/loop.h"

namespace wisp::api {

class Connection;

/// What a connection needs of its server.
class ConnectionHost {
public:
    /// Answers a request, by Connection::answer(), at once or later.
    virtual void handle(Connection& connection, Request request) = 0;
    /// Connection::stalled_since_ns() has begun to count.
    virtual void on_stall() = 0;
    /// The connection is over. The host destroys it in a later turn of the loop.
    virtual void on_closed(Connection& connection) = 0;
    /// A fatal answer has been sent, or cannot be.
    virtual void on_fatal_answer_sent() = 0;

protected:
    ~ConnectionHost() = default;
};

class Connection final : public Watcher {
public:
    Connection(Loop& loop, ConnectionHost& host, OwnedFd fd, size_t max_body)
        : loop_(loop), host_(host), fd_(std::move(fd)), reader_(max_body), serve_again_(loop, [this] { serve(); }) {}

    Result<void> start();

    /// The answer to the request that is being handled.
    void answer(const Response& response);

    void close();

    bool closed() const { return !fd_.valid(); }
    /// Between requests, with nothing on its way in or out.
    bool idle() const { return !waiting_ && output_.empty() && !reader_.in_request(); }
    /// CLOCK_MONOTONIC of the last thing that happened.
    uint64_t last_active_ns() const { return last_active_ns_; }
    /// When it began to wait for bytes to come or go that should have by now; 0 if it does not wait.
    uint64_t stalled_since_ns() const { return stalled_since_ns_; }

private:
    void on_ready(uint32_t events) override;
    void serve();
    bool read_request();
    bool receive();
    bool flush();
    void note_stall();

    Loop& loop_;
    ConnectionHost& host_;
    OwnedFd fd_;
    Watch watch_;
    RequestReader reader_;
    Doorbell serve_again_;
    std::string input_;   ///< received and not read yet: less than one chunk
    std::string output_;  ///< to be sent
    uint64_t last_active_ns_ = 0;
    uint64_t stalled_since_ns_ = 0;
    bool waiting_ = false;  ///< for an answer
    bool serving_ = false;  ///< serve() is running
    bool close_after_output_ = false;
    bool fatal_ = false;
    bool keep_alive_ = true;
};

}  // namespace wisp::api
