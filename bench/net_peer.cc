// SPDX-License-Identifier: Apache-2.0
//
// The host's side of BENCH=net, and the plain process that the guest is compared with. TAP exists and is up.
//   net_peer tx TAP SIZE GSO MS             opens TAP, sends frames for that long
//   net_peer rx TAP SIZE GSO COUNT ROUNDS   opens TAP, fills it with frames, takes the time until it has read them
//   net_peer rtt TAP SIZE COUNT             opens TAP, sends a frame and waits for its echo
//   net_peer fill TAP SIZE GSO COUNT        fills TAP with COUNT frames whenever a frame comes out of it; until killed
//   net_peer echo TAP                       sends back what comes out of TAP; until killed
// The first three print "result frames=N us=N". They read and write as any program would: a system call a frame.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr size_t kHeader = 12;        // virtio header on the tap
constexpr size_t kPacketHeader = 10;  // the same on a packet socket
constexpr size_t kLargest = 65562;
constexpr unsigned kBuffers = 256;
constexpr uint16_t kExperimental = 0x88b5;  // Ethernet type of what asks and is echoed

[[noreturn]] void die(const char* what) {
    fprintf(stderr, "net_peer: %s: %s\n", what, strerror(errno));
    exit(1);
}

double now_us() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

void store16(unsigned char* at, size_t value) {
    at[0] = static_cast<unsigned char>(value >> 8);
    at[1] = static_cast<unsigned char>(value);
}

/// The frame that bench/guest/net.c sends, with a virtio header of `header` bytes.
std::vector<unsigned char> make_frame(size_t header, size_t size, size_t gso) {
    std::vector<unsigned char> bytes(header + size);
    unsigned char* frame = bytes.data() + header;
    memset(frame, 2, 6);
    memset(frame + 6, 6, 6);
    store16(frame + 12, kExperimental);
    if (!gso) return bytes;
    bytes[0] = bytes[1] = 1;  // NEEDS_CSUM, TCPV4
    bytes[2] = 54;
    bytes[4] = static_cast<unsigned char>(gso);
    bytes[5] = static_cast<unsigned char>(gso >> 8);
    bytes[6] = 34;
    bytes[8] = 16;
    store16(frame + 12, ETH_P_IP);
    frame[14] = 0x45;
    store16(frame + 16, size - ETH_HLEN);
    frame[22] = 64, frame[23] = 6;
    frame[26] = 10, frame[29] = 1, frame[30] = 10, frame[33] = 2;
    frame[46] = 0x50, frame[47] = 0x10;
    return bytes;
}

int open_tap(const char* name) {
    const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    ifreq request{};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    int size = kHeader;
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &size) < 0 ||
        ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) < 0)
        die(name);
    return fd;
}

int open_packet_socket(const char* name, bool header) {
    const int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(if_nametoindex(name));
    const int on = 1;
    const int room = 16 << 20;
    if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) die(name);
    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on);
    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    if (header && setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) < 0) die("PACKET_VNET_HDR");
    return fd;
}

void print_result(double frames, double us) {
    printf("result frames=%.0f us=%.0f\n", frames, us);
}

void run_tx(const char* tap, size_t size, size_t gso, double ms) {
    const int fd = open_tap(tap);
    const std::vector<std::vector<unsigned char>> frames(kBuffers, make_frame(kHeader, size, gso));
    const double warm = now_us() + 100e3;
    double start = 0, end = 0;
    uint64_t sent = 0;
    for (;;) {
        for (const auto& frame : frames)
            if (write(fd, frame.data(), frame.size()) < 0) die("write");
        const double now = now_us();
        if (start > 0)
            sent += frames.size();
        else if (now >= warm)
            start = now;
        end = now;
        if (start > 0 && now - start >= ms * 1e3) break;
    }
    print_result(static_cast<double>(sent), end - start);
}

void fill(int socket, const std::vector<unsigned char>& frame, size_t count) {
    for (size_t i = 0; i < count; ++i)
        if (send(socket, frame.data(), frame.size(), 0) < 0) die("send");
}

void run_rx(const char* tap, size_t size, size_t gso, size_t count, size_t rounds) {
    const int fd = open_tap(tap), socket = open_packet_socket(tap, true);
    const auto frame = make_frame(kPacketHeader, size, gso);
    std::vector<std::vector<unsigned char>> buffers(kBuffers, std::vector<unsigned char>(kLargest));
    double us = 0;
    size_t all = 0;
    for (size_t round = 0; round < rounds; ++round) {
        fill(socket, frame, count);
        usleep(100'000);
        const double start = now_us();
        size_t got = 0;
        for (; got < count; ++got)
            if (read(fd, buffers[got % kBuffers].data(), kLargest) != static_cast<ssize_t>(kHeader + size)) die("read");
        us += now_us() - start;
        all += got;
    }
    print_result(static_cast<double>(all), us);
}

[[noreturn]] void run_echo(const char* tap) {
    const int socket = open_packet_socket(tap, false);
    std::vector<unsigned char> frame(kLargest);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        const ssize_t size = recv(socket, frame.data(), frame.size(), 0);
        if (size < ETH_HLEN || frame[12] != kExperimental >> 8 || frame[13] != (kExperimental & 0xff)) continue;
        // Not every frame that a hostile guest sends fits the device.
        if (send(socket, frame.data(), static_cast<size_t>(size), 0) < 0 && errno != EMSGSIZE && errno != EINVAL &&
            errno != ENOBUFS)
            die("send");
    }
}

void run_rtt(const char* tap, size_t size, size_t count) {
    const int fd = open_tap(tap);
    const pid_t peer = fork();
    if (peer == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(fd);
        run_echo(tap);
    }
    usleep(100'000);
    const auto frame = make_frame(kHeader, size, 0);
    std::vector<unsigned char> back(kLargest);
    const double start = now_us();
    for (size_t i = 0; i < count; ++i) {
        if (write(fd, frame.data(), frame.size()) < 0) die("write");
        // Others' frames (the kernel's own neighbour discovery) are not ours.
        while (read(fd, back.data(), back.size()) < 0 || back[kHeader + 12] != kExperimental >> 8) {
        }
    }
    print_result(static_cast<double>(count), now_us() - start);
    kill(peer, SIGKILL);
    waitpid(peer, nullptr, 0);
}

[[noreturn]] void run_fill(const char* tap, size_t size, size_t gso, size_t count) {
    const int socket = open_packet_socket(tap, true);
    const auto frame = make_frame(kPacketHeader, size, gso);
    std::vector<unsigned char> asked(kLargest);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        const ssize_t length = recv(socket, asked.data(), asked.size(), 0);
        if (length < static_cast<ssize_t>(kPacketHeader + ETH_HLEN) ||
            asked[kPacketHeader + 12] != kExperimental >> 8 || asked[kPacketHeader + 13] != (kExperimental & 0xff))
            continue;
        fill(socket, frame, count);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const std::string mode = argc > 2 ? argv[1] : "";
    const auto number = [&](int i) { return i < argc ? strtoul(argv[i], nullptr, 10) : 0ul; };
    const char* const tap = argc > 2 ? argv[2] : "";
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (mode == "tx")
        run_tx(tap, number(3), number(4), static_cast<double>(number(5)));
    else if (mode == "rx")
        run_rx(tap, number(3), number(4), number(5), number(6));
    else if (mode == "rtt")
        run_rtt(tap, number(3), number(4));
    else if (mode == "fill")
        run_fill(tap, number(3), number(4), number(5));
    else if (mode == "echo")
        run_echo(tap);
    else
        return fprintf(stderr, "net_peer: see the head of bench/net_peer.cc\n"), 2;
}
