// SPDX-License-Identifier: Apache-2.0
// wisp-agent [wisp.agent[=PORT]]: listens, and gives each connection a process of its own.

#include "agent.h"

namespace {

constexpr int kBacklog = 128;

int listen_on(unsigned port) {
    const int listener = sys::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC);
    if (listener < 0) return listener;
    if (const int error = sys::bind(listener, vsock_address(VMADDR_CID_ANY, port)); error < 0) return error;
    if (const int error = sys::listen(listener, kBacklog); error < 0) return error;
    return listener;
}

// Twice removed, so that process 1 is the one that hears of its end.
void start_server(int listener, int connection) {
    const int child = sys::fork();
    if (child == 0) {
        if (sys::fork() == 0) {
            sys::close(listener);
            serve(connection);
        }
        sys::exit(0);
    }
    sys::close(connection);
    if (child > 0) sys::wait(child, nullptr);
}

int run_agent(unsigned port) {
    const int listener = listen_on(port);
    if (listener < 0) {
        say("wisp-agent: cannot listen on vsock: ", error_text(listener));
        return 1;
    }
    sys::block_signals(sys::signal_bit(SIGPIPE));  // and none else: SIGTERM ends it with the machine
    for (;;) {
        const int connection = sys::accept(listener);
        if (connection >= 0)
            start_server(listener, connection);
        else if (connection == -EMFILE || connection == -ENFILE || connection == -ENOMEM)
            sys::sleep_ms(10);
    }
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
