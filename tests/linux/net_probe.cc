// SPDX-License-Identifier: Apache-2.0
//
// Inside the guests of tests/linux, where there is nothing that speaks UDP or vsock: a static program.
//   net_probe echo PORT                    sends every datagram back, until one says "end"
//   net_probe check ADDRESS PORT COUNT MAX sends datagrams of all sizes up to MAX and compares what comes back
//   net_probe send ADDRESS PORT BYTES      sends so many bytes by TCP, in large pieces
//   net_probe vsock-echo PORT              sends back what each of many streams sends until its end; one that begins
//   with
//                                          an X is closed at once
//   net_probe vsock-connect PORT COUNT     connects to the host so many times in a row, and reads each stream to its
//   end
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include <cerrno>
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

sockaddr_vm vsock_address(unsigned context, unsigned port) {
    sockaddr_vm address{};
    address.svm_family = AF_VSOCK;
    address.svm_cid = context;
    address.svm_port = port;
    return address;
}

struct Stream {
    int fd;
    std::string waiting;  // to be sent back
    bool begun = false, ended = false;
};

constexpr size_t kMostWaiting = 32768;

// False once the stream is over.
bool serve(Stream& stream, short events) {
    static char block[kMostWaiting];
    if ((events & (POLLIN | POLLHUP | POLLERR)) && !stream.ended && stream.waiting.size() < kMostWaiting) {
        const ssize_t got = read(stream.fd, block, kMostWaiting - stream.waiting.size());
        if (got < 0 && errno != EAGAIN) return false;
        if (got == 0) stream.ended = true;
        if (got > 0) {
            if (!stream.begun && block[0] == 'X') return false;
            stream.begun = true;
            stream.waiting.append(block, static_cast<size_t>(got));
        }
    }
    if (!stream.waiting.empty()) {
        const ssize_t put = write(stream.fd, stream.waiting.data(), stream.waiting.size());
        if (put < 0 && errno != EAGAIN) return false;
        if (put > 0) stream.waiting.erase(0, static_cast<size_t>(put));
    }
    return !stream.ended || !stream.waiting.empty();
}

int vsock_echo(unsigned port) {
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    const int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const sockaddr_vm own = vsock_address(VMADDR_CID_ANY, port);
    if (bind(listener, reinterpret_cast<const sockaddr*>(&own), sizeof own) < 0 || listen(listener, 4096) < 0)
        return perror("vsock"), 1;
    printf("echo is ready\n");
    fflush(stdout);
    std::vector<Stream> streams;
    for (;;) {
        std::vector<pollfd> polled = {{listener, POLLIN, 0}};
        for (const Stream& stream : streams) {
            const bool full = stream.ended || stream.waiting.size() >= kMostWaiting;
            polled.push_back(
                {stream.fd, static_cast<short>((full ? 0 : POLLIN) | (stream.waiting.empty() ? 0 : POLLOUT)), 0});
        }
        if (poll(polled.data(), polled.size(), -1) < 0) return perror("poll"), 1;
        for (size_t i = streams.size(); i-- > 0;) {
            if (polled[i + 1].revents == 0 || serve(streams[i], polled[i + 1].revents)) continue;
            close(streams[i].fd);
            streams.erase(streams.begin() + static_cast<long>(i));
        }
        for (int fd; (fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) streams.push_back({fd, {}});
    }
}

int vsock_connect(unsigned port, unsigned count) {
    size_t bytes = 0;
    for (unsigned i = 0; i < count; ++i) {
        const int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
        const sockaddr_vm host = vsock_address(VMADDR_CID_HOST, port);
        if (connect(fd, reinterpret_cast<const sockaddr*>(&host), sizeof host) < 0)
            return fprintf(stderr, "connection %u: %s\n", i, strerror(errno)), 1;
        char block[4096];
        for (ssize_t got; (got = read(fd, block, sizeof block)) != 0; bytes += static_cast<size_t>(got))
            if (got < 0) return perror("read"), 1;
        close(fd);
    }
    printf("%u connections brought %zu bytes\n", count, bytes);
    return 0;
}

int send_stream(const char* address, uint16_t port, size_t bytes) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in peer{};
    peer.sin_family = AF_INET;
    peer.sin_port = htons(port);
    if (inet_pton(AF_INET, address, &peer.sin_addr) != 1) return perror("net_probe: address"), 2;
    if (connect(fd, reinterpret_cast<const sockaddr*>(&peer), sizeof peer) < 0) return perror("net_probe: connect"), 1;
    std::vector<char> data(bytes);
    for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<char>(i * 7 + i / 251);
    for (size_t sent = 0; sent < bytes;) {
        const ssize_t size = write(fd, data.data() + sent, bytes - sent);
        if (size < 0) return perror("net_probe: write"), 1;
        sent += static_cast<size_t>(size);
    }
    return close(fd);
}

}  // namespace

int main(int argc, char** argv) {
    const std::string mode = argc > 2 ? argv[1] : "";
    const auto number = [&](int i) { return static_cast<unsigned>(atoi(argv[i])); };
    if (mode == "vsock-echo") return vsock_echo(number(2));
    if (mode == "vsock-connect" && argc == 4) return vsock_connect(number(2), number(3));
    if (mode == "send" && argc == 5) return send_stream(argv[2], static_cast<uint16_t>(number(3)), number(4));
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (mode == "echo") return echo(fd, static_cast<uint16_t>(number(2)));
    if (mode == "check" && argc == 6) return check(fd, argv[2], static_cast<uint16_t>(number(3)), number(4), number(5));
    return fprintf(stderr, "net_probe: see the head of net_probe.cc\n"), 2;
}
