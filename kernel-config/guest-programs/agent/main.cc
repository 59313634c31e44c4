// SPDX-License-Identifier: Apache-2.0
// wisp-agent [wisp.agent[=PORT]]: listens, and gives each connection a process of its own once a command comes.

#include "agent.h"

namespace {

// More than a vsock device has connections. The kernel resets the connection that finds the backlog full.
constexpr int kBacklog = 4096;
constexpr rlim_t kMaxDescriptors = 4096;      // the kernel's own hard limit
constexpr rlim_t kCommandDescriptors = 1024;  // the usual soft limit: what a command expects

int listen_on(unsigned port) {
    const int listener = sys::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC);
    if (listener < 0) return listener;
    if (const int error = sys::bind(listener, vsock_address(VMADDR_CID_ANY, port)); error < 0) return error;
    if (const int error = sys::listen(listener, kBacklog); error < 0) return error;
    return listener;
}

// In the child. It closes the other connections: as long as a copy is open, their host programs see no end.
[[noreturn]] void become_server(int connection) {
    constexpr int kConnection = 3;
    if (connection != kConnection) sys::dup3(connection, kConnection);
    sys::close_from(kConnection + 1);
    sys::set_signal_default(SIGCHLD);  // serve() waits for its command
    sys::set_descriptor_limit(kCommandDescriptors, kMaxDescriptors);
    serve(kConnection);
}

class Agent {
public:
    explicit Agent(int listener) : listener_(listener), epoll_(sys::epoll_create()) { watch(listener_); }

    [[noreturn]] void run() {
        for (;;) {
            epoll_event event;
            if (sys::epoll_wait(epoll_, &event, 1) != 1) continue;
            if (event.data.fd == listener_)
                accept();
            else
                start_server(event.data.fd);
        }
    }

private:
    void watch(int fd) {
        const epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
        sys::epoll_change(epoll_, EPOLL_CTL_ADD, fd, event);
    }

    // A child's copy keeps the socket open, and epoll would go on to report it: so it is removed first.
    void close(int connection) {
        sys::epoll_change(epoll_, EPOLL_CTL_DEL, connection, {});
        sys::close(connection);
    }

    // Until its first bytes come a connection costs a descriptor, not a process.
    void accept() {
        const int connection = sys::accept(listener_);
        if (connection >= 0)
            watch(connection);
        else if (connection == -EMFILE || connection == -ENFILE || connection == -ENOMEM)
            sys::sleep_ms(kRetryMs);
    }

    void start_server(int connection) {
        if (has_ended(connection)) return close(connection);
        const int child = sys::fork();
        if (child == 0) become_server(connection);
        if (child > 0)
            close(connection);
        else
            sys::sleep_ms(kRetryMs);  // no memory for a process now: the connection waits
    }

    // The host program closed the connection before it sent a command.
    static bool has_ended(int connection) {
        char first;
        const long got = sys::peek(connection, &first, sizeof first);
        return got == 0 || (got < 0 && got != -EAGAIN && got != -EINTR);
    }

    static constexpr long kRetryMs = 10;
    const int listener_;
    const int epoll_;
};

int run_agent(unsigned port) {
    const int listener = listen_on(port);
    if (listener < 0) {
        say("wisp-agent: cannot listen on vsock: ", error_text(listener));
        return 1;
    }
    sys::set_descriptor_limit(kMaxDescriptors, kMaxDescriptors);
    sys::block_signals(sys::signal_bit(SIGPIPE));  // and no other: SIGTERM ends the agent with the machine
    sys::set_signal_ignored(SIGCHLD);              // the kernel reaps the servers
    Agent(listener).run();
}

}  // namespace

unsigned number_of(const char* text) {
    unsigned number = 0;
    while (*text >= '0' && *text <= '9') number = number * 10 + static_cast<unsigned>(*text++ - '0');
    return number;
}

sockaddr_vm vsock_address(unsigned cid, unsigned port) {
    sockaddr_vm address{};
    address.svm_family = AF_VSOCK;
    address.svm_cid = cid;
    address.svm_port = port;
    return address;
}

int run_program(int argument_count, const char* const* arguments) {
    const std::string_view name = argument_count > 0 ? arguments[0] : "";
    const char* const argument = argument_count > 1 ? arguments[1] : "";
    if (name.ends_with("vsock-connect")) {
        if (const unsigned port = number_of(argument); port != 0) return connect_to_host(port);
        say("usage: vsock-connect PORT: standard input and output to and from a vsock port of the host\n");
        return 1;
    }
    const char* port = argument;
    while (*port != 0 && (*port < '0' || *port > '9')) port++;
    return run_agent(number_of(port) != 0 ? number_of(port) : kDefaultPort);
}
