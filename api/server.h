// SPDX-License-Identifier: Apache-2.0
//
// Server: the API's Unix socket. It takes connections, and hands their requests to a handler one at a time, in the
// order in which they came to be whole: the machine never sees two at once.
//
// Clients may be slow or hostile: connections, the bytes each holds and the time each may take are bounded (limits.h).
//
// Threads: the loop's.
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
    /// Answers a request, by the reply, once, at once or later.
    using Handler = std::move_only_function<void(Request, Reply)>;

    /// Binds and listens at `path`. `max_body`: bytes. `on_fatal`: an answer that ends the process has been sent.
    static Result<std::unique_ptr<Server>> create(Loop& loop, std::string path, size_t max_body, Handler handler,
                                                  std::function<void()> on_fatal);
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server();

    /// Removes the socket from the file system: at the end of the process, when no destructor will run.
    void unlink() { listener_->unlink(); }

    size_t connections() const { return connections_.size(); }

private:
    struct Waiting {
        Connection* connection;  ///< nullptr if it has gone
        Request request;
    };

    Server(Loop& loop, size_t max_body, Handler handler, std::function<void()> on_fatal);

    void on_ready(uint32_t events) override;
    bool accept_one();
    bool evict_idle();
    void watch_stalled();
    void check_stalled();

    void handle(Connection& connection, Request request) override;
    void on_stall() override { watch_stalled(); }
    void on_closed(Connection& connection) override;
    void on_fatal_answer_sent() override { on_fatal_(); }
    void run_next();
    void on_reply(const Response& response);

    Loop& loop_;
    const size_t max_body_;
    Handler handler_;
    std::function<void()> on_fatal_;
    std::optional<UnixListener> listener_;  // always, once there is a server
    Watch watch_;
    Timer stall_timer_;
    std::vector<std::unique_ptr<Connection>> connections_;
    std::deque<Waiting> waiting_;  ///< the first is being handled if busy_
    uint64_t turn_ = 0;            ///< of the loop, for which …
    unsigned accepts_left_ = 0;
    Doorbell accept_again_;
    std::vector<std::unique_ptr<Connection>> closed_;  ///< until the next turn: they may be on the stack
    Doorbell forget_closed_;
    bool busy_ = false;
    bool running_ = false;  ///< run_next() is on the stack
};

}  // namespace wisp::api
