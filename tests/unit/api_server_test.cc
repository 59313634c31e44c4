// SPDX-License-Identifier: Apache-2.0
//
// The API's server with a machine that never answers. tests/api has the rest.
#include "api/server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <cerrno>

using namespace wisp;
using namespace wisp::api;

namespace {

constexpr std::string_view kPut = "PUT / HTTP/1.1\r\n\r\n";

void run(Loop& loop) {
    for (int i = 0; i < 3; ++i) REQUIRE(loop.turn(0));
}

}  // namespace

TEST_CASE("a client is refused where all others wait for an answer, and served when they have it") {
    auto loop = *Loop::create(Loop::Backend::kEpoll);
    const std::string path = "/tmp/wisp-test-" + std::to_string(getpid()) + ".sock";
    std::vector<Server::Reply> replies;
    auto server = *Server::create(
        *loop, path, 100, [&](Request, Server::Reply reply) { replies.push_back(std::move(reply)); }, [] {});
    const auto connect = [&] {
        UnixSocket client = connect_unix(path);
        REQUIRE(client.error == 0);
        REQUIRE(send(client.fd.get(), kPut.data(), kPut.size(), 0) == static_cast<ssize_t>(kPut.size()));
        run(*loop);
        return std::move(client.fd);
    };
    const auto answer = [](const OwnedFd& client) {
        char text[1000];
        const ssize_t size = recv(client.get(), text, sizeof text, 0);
        if (size < 0 && errno == EAGAIN) return std::string("none yet");
        return std::string(text, size > 0 ? static_cast<size_t>(size) : 0);
    };
    std::vector<OwnedFd> clients;
    for (size_t i = 0; i < limits::kApiConnections; ++i) clients.push_back(connect());
    CHECK(server->connections() == limits::kApiConnections);
    CHECK(replies.size() == 1);  // the machine sees one at a time

    const std::string refusal = answer(connect());
    CHECK(refusal.starts_with("HTTP/1.1 503 \r\n"));
    CHECK(refusal.find("Connection: close\r\n") != std::string::npos);
    CHECK(refusal.ends_with("{ \"error\": \"Too many open connections\" }"));
    CHECK(server->connections() == limits::kApiConnections);

    Server::Reply reply = std::move(replies[0]);
    reply(Response::no_content());
    run(*loop);
    CHECK(answer(clients[0]).starts_with("HTTP/1.1 204 \r\n"));
    const OwnedFd late = connect();  // the client that has its answer makes room
    CHECK(server->connections() == limits::kApiConnections);
    CHECK(answer(clients[0]).empty());
    CHECK(answer(late) == "none yet");
}

TEST_CASE("a GET is answered while another client's request is under way") {
    auto loop = *Loop::create(Loop::Backend::kEpoll);
    const std::string path = "/tmp/wisp-test-get-" + std::to_string(getpid()) + ".sock";
    std::vector<Server::Reply> held;
    auto server = *Server::create(
        *loop, path, 100,
        [&](Request request, Server::Reply reply) {
            if (request.method == http::Method::kGet) return reply(Response::json("{}"));
            held.push_back(std::move(reply));
        },
        [] {});
    const auto send_to = [&](std::string_view text) {
        UnixSocket client = connect_unix(path);
        REQUIRE(client.error == 0);
        REQUIRE(send(client.fd.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
        run(*loop);
        return std::move(client.fd);
    };
    const OwnedFd busy = send_to(kPut);
    REQUIRE(held.size() == 1);
    const OwnedFd reader = send_to("GET / HTTP/1.1\r\n\r\n");
    char text[1000];
    const ssize_t size = recv(reader.get(), text, sizeof text, MSG_DONTWAIT);
    REQUIRE(size > 0);
    CHECK(std::string_view(text, static_cast<size_t>(size)).starts_with("HTTP/1.1 200 "));
    const OwnedFd queued = send_to(kPut);
    CHECK(held.size() == 1);  // the machine sees one at a time
    held[0](Response::no_content());
    run(*loop);
    CHECK(held.size() == 2);
}
