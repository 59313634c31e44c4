// SPDX-License-Identifier: Apache-2.0
//
// Inside the guest of tests/linux/test_net.py, where there is nothing that speaks UDP: a static program.
//   net_probe echo PORT                    sends every datagram back, until one says "end"
//   net_probe check ADDRESS PORT COUNT MAX sends datagrams of all sizes up to MAX and compares what comes back
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr size_t kLargest = 65507;

int echo(int fd, uint16_t port) {
    sockaddr_in own{};
    own.sin_family = AF_INET;
    own.sin_port = htons(port);
    if (bind(fd, reinterpret_cast<sockaddr*>(&own), sizeof own) < 0) return perror("bind"), 1;
    printf("echo is ready\n");
    fflush(stdout);
    std::vector<char> data(kLargest);
    for (;;) {
        sockaddr_in from{};
        socklen_t length = sizeof from;
        const ssize_t size = recvfrom(fd, data.data(), data.size(), 0, reinterpret_cast<sockaddr*>(&from), &length);
        if (size < 0) return perror("recvfrom"), 1;
        if (size == 3 && memcmp(data.data(), "end", 3) == 0) return 0;
        sendto(fd, data.data(), static_cast<size_t>(size), 0, reinterpret_cast<sockaddr*>(&from), length);
    }
}

int check(int fd, const char* address, uint16_t port, unsigned count, size_t largest) {
    sockaddr_in peer{};
    peer.sin_family = AF_INET;
    peer.sin_port = htons(port);
    inet_pton(AF_INET, address, &peer.sin_addr);
    const timeval patience{2, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, reinterpret_cast<sockaddr*>(&peer), sizeof peer) < 0) return perror("connect"), 1;
    std::vector<char> sent(kLargest), back(kLargest);
    uint32_t random = 1;
    for (unsigned i = 0; i < count; ++i) {
        random = random * 1664525 + 1013904223;
        const size_t size = i < 4 ? i + 1 : i == 4 ? largest : 1 + random % largest;
        for (size_t at = 0; at < size; ++at) sent[at] = static_cast<char>(random >> (at % 24) ^ at);
        ssize_t got = -1;
        for (int tries = 0; tries < 3 && got < 0; ++tries) {  // UDP may lose; it may not change
            if (send(fd, sent.data(), size, 0) < 0) return perror("send"), 1;
            got = recv(fd, back.data(), back.size(), 0);
        }
        if (got != static_cast<ssize_t>(size) || memcmp(sent.data(), back.data(), size) != 0)
            return printf("datagram %u of %zu bytes came back as %zd\n", i, size, got), 1;
    }
    printf("%u datagrams came back as they were\n", count);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    const std::string mode = argc > 2 ? argv[1] : "";
    const auto number = [&](int i) { return static_cast<unsigned>(atoi(argv[i])); };
    if (mode == "echo") return echo(fd, static_cast<uint16_t>(number(2)));
    if (mode == "check" && argc == 6) return check(fd, argv[2], static_cast<uint16_t>(number(3)), number(4), number(5));
    return fprintf(stderr, "net_probe: see the head of net_probe.cc\n"), 2;
}
