// SPDX-License-Identifier: Apache-2.0
//
// Server: the API's Unix socket. It accepts connections, and hands their requests to a handler one at a time, in the
// order in which they became whole: the machine never sees two at once.
//
// Clients may be slow or hostile: base/limits.h bounds their number, the bytes that each holds and the time that each
// may take. Where there is no room, the connection that has made no progress for the longest time is closed.
//
// Threads: control's.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/connection.h"
#include "base/loop.h"
#include "base/unix_socket.h"

namespace wisp::api {

class Server final : private Watcher, private ConnectionHost {
public:
    using Reply = std::move_only_function<void(Response)>;
    /// Answers a request by calling the reply once, at once or later.
    using Handler = std::move_only_function<void(Request, Reply)>;

    /// Binds and listens at `path`. `max_body`: bytes. `on_fatal`: an answer that ends the process has been sent.
    /// Errors name the path.
    static Result<std::unique_ptr<Server>> create(Loop& loop, std::string path, size_t max_body, Handler handler,
                                                  std::function<void()> on_fatal);
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server();

    /// Removes the socket from the file system: at the end of a process that runs no destructors.
    void unlink() { listener_->unlink(); }

    size_t connections() const { return connections_.size(); }

private:
    struct Waiting {
        Connection* connection;  ///< nullptr if it has closed
        Request request;
    };

    Server(Loop& loop, size_t max_body, Handler handler, std::function<void()> on_fatal);

    void on_ready(uint32_t events) override;
    bool accept_one();
    void add(OwnedFd socket);
    bool free_descriptor();
    void keep_descriptor(OwnedFd fd);
    bool evict();
    bool has_waiting_client() const;
    void watch_stalled();
    void check_stalled();

    void handle(Connection& connection, Request request) override;
    void on_stall() override { watch_stalled(); }
    void on_closed(Connection& connection, OwnedFd socket) override;
    void on_fatal_answer_sent() override { on_fatal_(); }
    void run_next();
    void on_reply(const Response& response);

    Loop& loop_;
    const size_t max_body_;
    Handler handler_;
    std::function<void()> on_fatal_;
    std::optional<UnixListener> listener_;  // always there after create()
    Watch watch_;
    Timer stall_timer_;
    std::vector<std::unique_ptr<Connection>> connections_;
    std::deque<Waiting> waiting_;  ///< the first is being handled if busy_
    uint64_t turn_ = 0;            ///< the loop's turn that accepts_left_ belongs to
    unsigned accepts_left_ = 0;
    Doorbell accept_again_;
    std::vector<std::unique_ptr<Connection>> closed_;  ///< until the next turn: they may be on the stack
    Doorbell forget_closed_;
    /// Descriptors to give up for a client that comes when the process may open no more.
    std::vector<OwnedFd> reserve_;
    bool shortage_logged_ = false;
    bool busy_ = false;
    bool running_ = false;  ///< run_next() is running
};

}  // namespace wisp::api
