// SPDX-License-Identifier: Apache-2.0
//
// The vsock device with a guest's driver on one side and real Unix sockets on the other.
#include "virtio/vsock/device.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <random>

#include "base/unix_socket.h"
#include "tests/support/vsock_guest.h"

using namespace wisp;
using namespace wisp::virtio;
using test::host_connect;
using test::host_listen;
using test::test_bytes;
using test::VsockGuest;

namespace {

void write_all(int fd, std::string_view text) {
    REQUIRE(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

// What there is to read now, up to `size` bytes; nothing at the end or where there is nothing.
std::string read_some(int fd, size_t size = 1 << 20) {
    std::string text(size, '\0');
    const ssize_t got = ::read(fd, text.data(), size);
    text.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return text;
}

std::string read_exactly(VsockGuest& guest, int fd, size_t size) {
    std::string text;
    guest.until([&] { return (text += read_some(fd, size - text.size())).size() == size; });
    return text;
}

bool at_end(int fd) {
    char byte;
    return ::read(fd, &byte, 1) == 0;
}

int open_descriptors() {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) (void)entry, ++count;
    return count;
}

// A connection that a host program opened.
struct FromHost {
    FromHost(VsockGuest& on, uint32_t port, const char* line_end = "\n") : guest(on), fd(host_connect(on.uds_path())) {
        write_all(fd.get(), "CONNECT " + std::to_string(port) + line_end);
        const auto request = guest.next();
        CHECK(request.op() == VsockOp::kRequest);
        CHECK(request.header.src_cid == kVsockHostCid);
        CHECK(request.header.dst_cid == VsockGuest::kCid);
        CHECK(request.header.dst_port == port);
        CHECK(request.header.type == VIRTIO_VSOCK_TYPE_STREAM);
        ports = {port, request.header.src_port};
        guest.send(VsockOp::kResponse, ports);
        const std::string answer = "OK " + std::to_string(ports.host) + "\n";
        CHECK(read_exactly(guest, fd.get(), answer.size()) == answer);
    }
    VsockGuest& guest;
    OwnedFd fd;
    VsockPorts ports;
};

// One that the guest opened.
struct FromGuest {
    FromGuest(VsockGuest& on, VsockPorts wanted)
        : guest(on), ports(wanted), listener(host_listen(on.uds_path() + "_" + std::to_string(wanted.host))) {
        guest.send(VsockOp::kRequest, ports);
        const auto response = guest.next();
        CHECK(response.op() == VsockOp::kResponse);
        CHECK(response.header.dst_port == ports.guest);
        CHECK(response.header.src_port == ports.host);
        CHECK(response.header.buf_alloc >= limits::kVsockCreditLeast);
        fd = OwnedFd(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        REQUIRE(fd.valid());
    }
    VsockGuest& guest;
    VsockPorts ports;
    OwnedFd listener, fd;
};

// Of a guest that grants itself as much: it gets no update before half of our credit is used up.
constexpr uint32_t kAll = limits::kVsockCredit;

VsockGuest::Packet expect(VsockGuest& guest, VsockOp op, VsockPorts ports) {
    const auto packet = guest.next();
    CHECK(packet.op() == op);
    CHECK(packet.header.dst_port == ports.guest);
    CHECK(packet.header.src_port == ports.host);
    return packet;
}

// Data packets for a connection until there are `size` bytes.
std::string collect(VsockGuest& guest, VsockPorts ports, size_t size) {
    std::string all;
    while (all.size() < size) {
        const auto packet = guest.next();
        if (packet.op() != VsockOp::kData) continue;
        CHECK(packet.header.dst_port == ports.guest);
        all += packet.data;
        guest.fwd_cnt[ports.key()] += packet.header.len;
        guest.send(VsockOp::kCreditUpdate, ports);
    }
    return all;
}

}  // namespace

TEST_CASE("vsock: a path that cannot be listened on is refused with a reason") {
    auto loop = *Loop::create();
    const auto why = [&](const std::string& path) { return Vsock::create(*loop, {3, path}).error().message; };
    CHECK(why("/nonexistent/folder/v") ==
          "vsock: uds_path: cannot bind to /nonexistent/folder/v: No such file or directory");
    CHECK(why("/" + std::string(200, 'x')).find("at most 107 bytes") != std::string::npos);
    const test::TempFolder folder;
    auto first = Vsock::create(*loop, {3, folder / "v"});
    REQUIRE(first);
    CHECK(why(folder / "v").find("is there already") != std::string::npos);
    CHECK(why(folder / "v").find("Address already in use") != std::string::npos);
    first->reset();
    CHECK_FALSE(std::filesystem::exists(folder / "v"));  // the socket goes with the device
    CHECK(Vsock::create(*loop, {3, folder / "v"}));
}

TEST_CASE("vsock: the configuration space is the guest's context ID") {
    VsockGuest guest;
    uint64_t cid = 0;
    guest.vsock->read_config(0, std::as_writable_bytes(std::span(&cid, 1)));
    CHECK(cid == VsockGuest::kCid);
    std::byte beyond[2] = {std::byte{1}, std::byte{1}};
    guest.vsock->read_config(8, beyond);
    CHECK(beyond[0] == std::byte{0});
}

TEST_CASE("vsock: a host program connects, both sides talk, the guest closes") {
    VsockGuest guest;
    FromHost connection(guest, 52);
    write_all(connection.fd.get(), "hello guest");
    CHECK(collect(guest, connection.ports, 11) == "hello guest");
    guest.send(VsockOp::kData, connection.ports, "hello host");
    CHECK(read_exactly(guest, connection.fd.get(), 10) == "hello host");
    guest.send(VsockOp::kShutdown, connection.ports, {}, kVsockBoth);
    expect(guest, VsockOp::kReset, connection.ports);
    CHECK(at_end(connection.fd.get()));
    CHECK(guest.vsock->connections() == 0);
}

TEST_CASE("vsock: the guest connects, both sides talk, the host closes") {
    VsockGuest guest;
    FromGuest connection(guest, {1234, 80});
    guest.send(VsockOp::kData, connection.ports, "GET");
    CHECK(read_exactly(guest, connection.fd.get(), 3) == "GET");
    write_all(connection.fd.get(), "answer");
    connection.fd.reset();
    bool deaf_told = false;
    std::string data;
    for (;;) {
        const auto packet = guest.next();
        if (packet.op() == VsockOp::kData) {
            data += packet.data;
        } else {
            CHECK(packet.op() == VsockOp::kShutdown);
            if (packet.header.flags == kVsockBoth) break;
            CHECK(packet.header.flags == kVsockNoReceive);
            deaf_told = true;
        }
    }
    CHECK(deaf_told);
    CHECK(data == "answer");
    guest.send(VsockOp::kReset, connection.ports);
    CHECK(guest.vsock->connections() == 0);
}

TEST_CASE("vsock: CONNECT in pieces, with data right behind, and in small letters") {
    VsockGuest guest;
    const OwnedFd fd(host_connect(guest.uds_path()));
    for (const char* piece : {"con", "NECT", " ", "7", "7"}) {
        write_all(fd.get(), piece);
        guest.turn();
    }
    CHECK_FALSE(guest.poll());
    write_all(fd.get(), "\ndata");
    const auto request = guest.next();
    CHECK(request.header.dst_port == 77);
    const VsockPorts ports{77, request.header.src_port};
    guest.send(VsockOp::kResponse, ports);
    CHECK(collect(guest, ports, 4) == "data");
}

TEST_CASE("vsock: a wrong CONNECT line ends that connection only") {
    VsockGuest guest;
    FromHost good(guest, 52);
    for (const char* wrong : {"GET / HTTP/1.1\r\n", "CONNECT x\n", "CONNECT 4294967296\n", "CONNECT\n",
                              "CONNECT 0000000000000000000000000000000000001\n"}) {
        const OwnedFd fd(host_connect(guest.uds_path()));
        write_all(fd.get(), wrong);
        guest.until([&] { return guest.vsock->connections() == 1; });
        char byte;
        CHECK(::read(fd.get(), &byte, 1) <= 0);
    }
    {
        const OwnedFd silent(host_connect(guest.uds_path()));
        guest.until([&] { return guest.vsock->connections() == 2; });
    }
    guest.until([&] { return guest.vsock->connections() == 1; });
    write_all(good.fd.get(), "still here");
    CHECK(collect(guest, good.ports, 10) == "still here");
    CHECK(guest.vsock->counters().muxer_event_fails == 5);
}

TEST_CASE("vsock: the guest refuses, or does not answer in time") {
    VsockGuest guest;
    const OwnedFd refused(host_connect(guest.uds_path()));
    write_all(refused.get(), "CONNECT 1\n");
    const auto request = guest.next();
    guest.send(VsockOp::kReset, {1, request.header.src_port});
    CHECK(at_end(refused.get()));

    const OwnedFd late(host_connect(guest.uds_path()));
    write_all(late.get(), "CONNECT 1\n");
    const auto second = guest.next();
    CHECK(second.op() == VsockOp::kRequest);
    CHECK(second.header.src_port == request.header.src_port + 1);  // never the same one soon
    expect(guest, VsockOp::kReset, {1, second.header.src_port});
    CHECK(at_end(late.get()));
    CHECK(guest.vsock->connections() == 0);
    CHECK(guest.vsock->counters().conns_killed == 1);
}

TEST_CASE("vsock: without a listener of the host the guest is refused at once") {
    VsockGuest guest;
    guest.send(VsockOp::kRequest, {5, 99});
    expect(guest, VsockOp::kReset, {5, 99});
    const OwnedFd stale(host_listen(guest.uds_path() + "_98"));
    const_cast<OwnedFd&>(stale).reset();  // the file is there and nobody listens
    guest.send(VsockOp::kRequest, {5, 98});
    expect(guest, VsockOp::kReset, {5, 98});
    CHECK(guest.vsock->connections() == 0);
}

TEST_CASE("vsock: a host program whose backlog is full is tried again") {
    VsockGuest guest;
    const OwnedFd listener(host_listen(guest.uds_path() + "_9", 0));
    for (uint32_t port = 1; port <= 4; ++port) guest.send(VsockOp::kRequest, {port, 9});
    expect(guest, VsockOp::kResponse, {1, 9});
    guest.turn();
    std::vector<OwnedFd> accepted;
    guest.until([&] {
        accepted.emplace_back(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!accepted.back().valid()) accepted.pop_back();
        return accepted.size() == 4;
    });
    for (uint32_t port = 2; port <= 4; ++port) CHECK(guest.next().op() == VsockOp::kResponse);
}

namespace {

unsigned connects_counted = 0;
UnixSocket count_connect(const std::string& path) {
    ++connects_counted;
    return connect_unix(path);
}

int sends_to_fail = 0, receives_to_fail = 0;
ssize_t send_short_of_memory(int fd, std::span<const iovec> parts) {
    if (sends_to_fail == 0) return send_some(fd, parts);
    // A part goes at the first attempt: the socket is not full, so the kernel tells nothing later.
    if (sends_to_fail-- == 2) return send_some(fd, parts.first(1));
    return -ENOBUFS;
}
Received receive_short_of_memory(int fd, std::span<const iovec> parts) {
    if (receives_to_fail == 0) return receive_some(fd, parts);
    --receives_to_fail;
    return {-ENOMEM};
}

}  // namespace

TEST_CASE("vsock: host programs with a full backlog are tried again a few at a time") {
    connects_counted = 0;
    VsockGuest guest({.sockets = {.connect = count_connect}});
    const OwnedFd listener(host_listen(guest.uds_path() + "_9", 0));
    constexpr unsigned kWaiting = 200;
    for (uint32_t port = 0; port <= kWaiting; ++port) guest.send(VsockOp::kRequest, {port, 9});
    expect(guest, VsockOp::kResponse, {0, 9});
    guest.turn();
    const unsigned before = connects_counted;
    const uint64_t start_ns = monotonic_ns();
    guest.until([&] { return connects_counted - before >= 10 * limits::kVsockRetriesAtOnce; });
    CHECK(monotonic_ns() - start_ns >= 8 * limits::kVsockConnectRetry_ms * 1'000'000);
}

TEST_CASE("vsock: data that the host has no memory for is sent and received later, and none is lost") {
    VsockGuest guest({.sockets = {.send = send_short_of_memory, .receive = receive_short_of_memory}});
    FromHost connection(guest, 52);
    const std::string data = test_bytes(1000, 3);
    sends_to_fail = 2;
    guest.send(VsockOp::kData, connection.ports, data);
    CHECK(read_exactly(guest, connection.fd.get(), data.size()) == data);
    CHECK(sends_to_fail == 0);
    receives_to_fail = 2;
    write_all(connection.fd.get(), data);
    CHECK(collect(guest, connection.ports, data.size()) == data);
    CHECK(receives_to_fail == 0);
    CHECK(guest.vsock->counters().tx_write_fails == 0);
    CHECK(guest.vsock->counters().tx_flush_fails == 0);
    CHECK(guest.vsock->counters().rx_read_fails == 0);
}

TEST_CASE("vsock: packets for no connection are answered by RST, an RST by nothing") {
    VsockGuest guest;
    for (const VsockOp op :
         {VsockOp::kResponse, VsockOp::kShutdown, VsockOp::kData, VsockOp::kCreditUpdate, VsockOp::kCreditRequest}) {
        guest.send(op, {8, 9});
        expect(guest, VsockOp::kReset, {8, 9});
    }
    guest.send(VsockOp::kReset, {8, 9});
    guest.turn();
    CHECK_FALSE(guest.poll());
}

TEST_CASE("vsock: a half close reaches the other side, and the other way stays open") {
    VsockGuest guest;
    SECTION("of the guest") {
        FromHost connection(guest, 52);
        guest.send(VsockOp::kData, connection.ports, "question");
        guest.send(VsockOp::kShutdown, connection.ports, {}, kVsockNoSend);
        CHECK(read_exactly(guest, connection.fd.get(), 8) == "question");
        CHECK(at_end(connection.fd.get()));
        write_all(connection.fd.get(), "answer");
        CHECK(collect(guest, connection.ports, 6) == "answer");
        connection.fd.reset();
        expect(guest, VsockOp::kShutdown, connection.ports);
    }
    SECTION("of the host") {
        FromHost connection(guest, 52);
        write_all(connection.fd.get(), "question");
        shutdown(connection.fd.get(), SHUT_WR);
        CHECK(collect(guest, connection.ports, 8) == "question");
        CHECK(expect(guest, VsockOp::kShutdown, connection.ports).header.flags == kVsockNoSend);
        guest.send(VsockOp::kData, connection.ports, "answer");
        CHECK(read_exactly(guest, connection.fd.get(), 6) == "answer");
        guest.send(VsockOp::kShutdown, connection.ports, {}, kVsockBoth);
        expect(guest, VsockOp::kReset, connection.ports);
        CHECK(at_end(connection.fd.get()));
    }
    SECTION("the guest receives no more") {
        FromHost connection(guest, 52);
        guest.send(VsockOp::kShutdown, connection.ports, {}, kVsockNoReceive);
        CHECK(::send(connection.fd.get(), "x", 1, MSG_NOSIGNAL) == -1);
        CHECK(errno == EPIPE);
        guest.send(VsockOp::kData, connection.ports, "more");
        CHECK(read_exactly(guest, connection.fd.get(), 4) == "more");
    }
}

TEST_CASE("vsock: a connection that the guest has opened outlives the time that it had for that") {
    VsockGuest guest;
    FromGuest connection(guest, {1234, 52});
    const uint64_t later = monotonic_ns() + (limits::kVsockConnectTimeout_ms + 100) * 1'000'000;
    guest.until([&] { return monotonic_ns() > later; });
    CHECK_FALSE(guest.poll());
}

TEST_CASE("vsock: data before a close still reaches a slow reader") {
    VsockGuest guest;
    guest.buf_alloc = kAll;
    FromHost connection(guest, 52);
    const std::string all = test_bytes(600 << 10, 1);
    for (size_t at = 0; at < all.size(); at += 60 << 10)
        guest.send(VsockOp::kData, connection.ports, std::string_view(all).substr(at, 60 << 10));
    guest.send(VsockOp::kShutdown, connection.ports, {}, kVsockBoth);
    expect(guest, VsockOp::kReset, connection.ports);  // for the guest it is over
    CHECK(read_exactly(guest, connection.fd.get(), all.size()) == all);
    guest.until([&] { return guest.vsock->connections() == 0; });
    CHECK(at_end(connection.fd.get()));
}

TEST_CASE("vsock: a reader that stalls stalls only itself, within its credit") {
    for (const bool split : {false, true}) {
        VsockGuest guest({.queue_size = 256, .split_header = split});
        FromHost stalled(guest, 52), lively(guest, 53);
        const std::string block = test_bytes(limits::kVsockPacket, 2);
        uint32_t sent = 0;
        for (; sent < limits::kVsockCredit; sent += block.size()) guest.send(VsockOp::kData, stalled.ports, block);
        for (int i = 0; i < 300; ++i) {
            const std::string text = "number " + std::to_string(i);
            guest.send(VsockOp::kData, lively.ports, text);
            CHECK(read_exactly(guest, lively.fd.get(), text.size()) == text);
            write_all(lively.fd.get(), text);
            CHECK(collect(guest, lively.ports, text.size()) == text);
        }
        for (uint32_t at = 0; at < sent; at += block.size())
            CHECK(read_exactly(guest, stalled.fd.get(), block.size()) == block);
        guest.turn();
        CHECK(guest.needs_reset.empty());
    }
}

TEST_CASE("vsock: a guest that sends more than its credit is reset, and others are not") {
    VsockGuest guest;
    guest.buf_alloc = kAll;
    FromHost greedy(guest, 52), other(guest, 53);
    const std::string block(limits::kVsockPacket, 'x');
    for (uint32_t sent = 0; sent < limits::kVsockCredit + (1 << 20); sent += block.size())
        guest.send(VsockOp::kData, greedy.ports, block);
    expect(guest, VsockOp::kReset, greedy.ports);
    guest.send(VsockOp::kData, other.ports, "fine");
    CHECK(read_exactly(guest, other.fd.get(), 4) == "fine");
    CHECK(guest.vsock->counters().conn_event_fails == 1);
}

TEST_CASE("vsock: the guest's credit bounds what it gets, and a stalled guest stalls only that connection") {
    VsockGuest guest;
    guest.buf_alloc = 10000;
    FromHost slow(guest, 52), fast(guest, 53);
    const std::string bytes = test_bytes(100000, 3);
    write_all(slow.fd.get(), bytes);
    std::string got;
    while (got.size() < 10000) got += expect(guest, VsockOp::kData, slow.ports).data;
    CHECK(got.size() == 10000);
    expect(guest, VsockOp::kCreditRequest, slow.ports);
    write_all(fast.fd.get(), "quick");
    CHECK(collect(guest, fast.ports, 5) == "quick");
    guest.fwd_cnt[slow.ports.key()] = 10000;
    guest.send(VsockOp::kCreditUpdate, slow.ports);
    got += collect(guest, slow.ports, bytes.size() - 10000);
    CHECK(got == bytes);
}

TEST_CASE("vsock: without receive buffers everything waits, and nothing is lost") {
    VsockGuest guest({.buffers = 0});
    const OwnedFd fd(host_connect(guest.uds_path()));
    write_all(fd.get(), "CONNECT 52\nhello");
    guest.send(VsockOp::kCreditUpdate, {1, 2});
    guest.turn();
    CHECK_FALSE(guest.poll());
    guest.post_buffers(1);
    CHECK(guest.next().op() == VsockOp::kReset);
    const auto request = guest.next();
    const VsockPorts ports{52, request.header.src_port};
    guest.send(VsockOp::kResponse, ports);
    CHECK(collect(guest, ports, 5) == "hello");
}

TEST_CASE("vsock: hostile chains are dropped or answered, one by one") {
    VsockGuest guest;
    FromHost connection(guest, 52);
    auto& tx = guest.tx;
    uint64_t dropped = 0;
    const auto check_dropped = [&] {
        guest.vsock->on_kick(1);
        CHECK(guest.vsock->counters().tx_queue_event_fails == ++dropped);
        CHECK_FALSE(guest.poll());
    };
    // Slot 15 of the guest's queue is used by hand here.
    guest.until([&] { return !guest.tx.used().has_value(); });
    constexpr uint16_t kHead = 60;
    for (const uint32_t size : {0u, 1u, 43u}) {
        tx.write_descriptor(kHead, 0x800000, size, 0, 0);
        tx.make_available(kHead);
        check_dropped();
    }
    tx.write_descriptor(kHead, 0x800000, 44, 2 /* writable */, 0);
    tx.make_available(kHead);
    check_dropped();
    tx.write_descriptor(kHead, 0x800000, 44, 1, kHead + 1);
    tx.write_descriptor(kHead + 1, 0x801000, 100, 2, 0);
    tx.make_available(kHead);
    check_dropped();
    tx.write_descriptor(kHead, 1ull << 50, 44, 0, 0);
    tx.make_available(kHead);
    check_dropped();
    tx.write_descriptor(kHead, 0x800000, 44, 1, kHead);  // a loop
    tx.make_available(kHead);
    check_dropped();
    guest.send(VsockOp::kData, connection.ports, "alive");
    CHECK(read_exactly(guest, connection.fd.get(), 5) == "alive");
    CHECK(guest.needs_reset.empty());
}

TEST_CASE("vsock: a header field that is wrong ends the connection that it names") {
    const auto hostile = [](const std::function<void(virtio_vsock_hdr&)>& spoil) {
        VsockGuest guest;
        FromHost connection(guest, 52);
        virtio_vsock_hdr header{};
        header.src_cid = VsockGuest::kCid;
        header.dst_cid = 2;
        header.src_port = connection.ports.guest;
        header.dst_port = connection.ports.host;
        header.type = 1;
        header.op = VIRTIO_VSOCK_OP_RW;
        header.buf_alloc = 4096;
        spoil(header);
        guest.send(header, "abc");
        const auto answer = guest.next();
        CHECK(answer.op() == VsockOp::kReset);
        CHECK(answer.header.dst_port == header.src_port);
        CHECK(answer.header.src_port == header.dst_port);
        CHECK(answer.header.src_cid == header.dst_cid);
        return guest.vsock->connections();
    };
    CHECK(hostile([](auto& header) { header.op = 0; }) == 0);
    CHECK(hostile([](auto& header) { header.op = 8; }) == 0);
    CHECK(hostile([](auto& header) { header.type = 2; }) == 0);
    CHECK(hostile([](auto& header) { header.len = 4; }) == 0);
    CHECK(hostile([](auto& header) { header.len = UINT32_MAX; }) == 0);
    CHECK(hostile([](auto& header) { header.fwd_cnt = 1; }) == 0);
    CHECK(hostile([](auto& header) { header.fwd_cnt = INT32_MAX; }) == 0);
    CHECK(hostile([](auto& header) { header.op = VIRTIO_VSOCK_OP_REQUEST; }) == 0);
    CHECK(hostile([](auto& header) { header.op = VIRTIO_VSOCK_OP_SHUTDOWN, header.flags = 8; }) == 0);
    CHECK(hostile([](auto& header) { header.dst_cid = 77; }) == 1);  // of no connection of ours
    CHECK(hostile([](auto& header) { ++header.src_port; }) == 1);
    CHECK(hostile([](auto& header) { ++header.dst_port; }) == 1);
}

TEST_CASE("vsock: receive buffers that are no use are passed over") {
    VsockGuest guest({.buffers = 0});
    guest.rx.write_descriptor(50, 0xF00000, 43, 2, 0);      // too small for a header
    guest.rx.write_descriptor(51, 0xF00000, 4096, 0, 0);    // not writable
    guest.rx.write_descriptor(52, 1ull << 50, 4096, 2, 0);  // nowhere
    for (const uint16_t head : {50, 51, 52}) guest.rx.make_available(head);
    guest.send(VsockOp::kData, {1, 2}, "x");
    for (const uint16_t head : {50, 51, 52}) {
        const auto used = guest.rx.used();
        REQUIRE(used);
        CHECK(used->head == head);
        CHECK(used->written == 0);
    }
    CHECK(guest.vsock->counters().rx_queue_event_fails == 3);
    guest.post_buffers(1);
    CHECK(guest.next().op() == VsockOp::kReset);
}

TEST_CASE("vsock: receive buffers cut up anyhow, with useless ones between") {
    VsockGuest guest({.buffers = 1, .repost = false});
    FromHost connection(guest, 52);
    const std::string bytes = test_bytes(3000, 4);
    constexpr uint64_t kAt = 0xE00000;
    // 20 + 24 + 1000 bytes; then one with no room for data; then 10 + 34 + 2000.
    const auto cut = [&](uint16_t head, uint64_t at, uint32_t a, uint32_t b, uint32_t c) {
        guest.rx.write_descriptor(head, at, a, 3, head + 1);
        guest.rx.write_descriptor(head + 1, at + a, b, c ? 3 : 2, head + 2);
        if (c) guest.rx.write_descriptor(head + 2, at + a + b, c, 2, 0);
        guest.rx.make_available(head);
    };
    write_all(connection.fd.get(), bytes);
    guest.turn();
    while (const auto packet = guest.poll()) FAIL("nothing was to come");
    std::string got;
    cut(40, kAt, 20, 24, 1000);
    cut(44, kAt + 0x10000, 20, 24, 0);
    cut(48, kAt + 0x20000, 10, 34, 2000);
    guest.vsock->on_kick(0);
    guest.turn();
    for (uint64_t i = 0; const auto used = guest.rx.used(); ++i) {
        const auto header = *guest.memory.load<virtio_vsock_hdr>({kAt + i * 0x10000});
        if (used->written == 0) continue;
        CHECK(used->written == 44 + header.len);
        got += guest.rx.bytes(kAt + i * 0x10000 + 44, header.len);
    }
    CHECK(got == bytes);
    CHECK(guest.vsock->counters().rx_queue_event_fails == 1);
}

TEST_CASE("vsock: a flood of packets for no connection takes no memory") {
    VsockGuest guest({.queue_size = 256, .buffers = 0});
    for (uint32_t i = 0; i < 2000; ++i) guest.send(VsockOp::kData, {i, 1}, "x");
    CHECK(guest.vsock->counters().killq_resync == 2000 - limits::kVsockResets);
    guest.post_buffers(100);
    guest.turn();
    unsigned answers = 0;
    while (guest.poll()) ++answers;
    CHECK(answers == 100);
}

TEST_CASE("vsock: a broken ring asks for a reset, and the device works again after it") {
    for (const int which : {0, 1}) {
        VsockGuest guest({.buffers = 1});
        FromHost connection(guest, 52);
        auto& ring = which == 0 ? guest.rx : guest.tx;
        ring.set_available_index(static_cast<uint16_t>(ring.available_index() + 500));
        if (which == 0) write_all(connection.fd.get(), std::string(10000, 'x'));  // more than the buffer that is there
        CAPTURE(which);
        guest.vsock->on_kick(static_cast<unsigned>(which));
        guest.until([&] { return !guest.needs_reset.empty(); });
        CHECK(guest.vsock->connections() == 0);
        guest.reset();
        guest.activate();
        FromHost again(guest, 52);
    }
}

TEST_CASE("vsock: a reset ends all connections, and those that come before the driver wait for it") {
    VsockGuest guest;
    FromHost connection(guest, 52);
    const std::string block(limits::kVsockPacket, 'x');
    for (int i = 0; i < 10; ++i) guest.send(VsockOp::kData, connection.ports, block);  // some of it waits
    guest.reset();
    CHECK(guest.vsock->connections() == 0);
    const OwnedFd early(host_connect(guest.uds_path()));
    write_all(early.get(), "CONNECT 9\n");
    for (int i = 0; i < 3; ++i) CHECK(guest.loop->turn(1'000'000));
    guest.activate();
    CHECK(guest.next().header.dst_port == 9);
}

TEST_CASE("vsock: a pause leaves nothing in flight, and after it everything goes on") {
    VsockGuest guest({.queue_size = 256});
    guest.buf_alloc = kAll;
    FromHost connection(guest, 52);
    const std::string all = test_bytes(15 * limits::kVsockPacket, 5);
    size_t at = 0;
    for (; at < all.size(); at += limits::kVsockPacket)
        guest.send(VsockOp::kData, connection.ports, std::string_view(all).substr(at, limits::kVsockPacket));
    const auto returned = [&] { return guest.tx.used_index() == guest.tx.available_index(); };
    CHECK_FALSE(returned());
    bool paused = false;
    guest.vsock->pause([&] { paused = true; });
    CHECK(paused);
    CHECK(returned());
    write_all(connection.fd.get(), "while paused");
    const OwnedFd other(host_connect(guest.uds_path()));
    guest.send(VsockOp::kData, connection.ports, "!");
    guest.turn();
    CHECK_FALSE(guest.poll());
    CHECK_FALSE(returned());
    guest.vsock->resume();
    CHECK(collect(guest, connection.ports, 12) == "while paused");
    CHECK(read_exactly(guest, connection.fd.get(), all.size() + 1) == all + "!");
    guest.until([&] { return guest.vsock->connections() == 2; });
}

TEST_CASE("vsock: a paused device takes nothing and counts nothing") {
    VsockGuest guest;
    FromHost connection(guest, 52);
    guest.turn();
    guest.vsock->pause([] {});
    const VsockCounters before = guest.vsock->counters();
    write_all(connection.fd.get(), "while paused");
    const OwnedFd other(host_connect(guest.uds_path()));
    guest.send(VsockOp::kData, connection.ports, "!");
    for (unsigned i = 0; i < 3; ++i) guest.vsock->on_kick(i);
    guest.turn();
    const VsockCounters& now = guest.vsock->counters();
    CHECK(now.rx_queue_event_count == before.rx_queue_event_count);
    CHECK(now.tx_queue_event_count == before.tx_queue_event_count);
    CHECK(now.tx_packets_count == before.tx_packets_count);
    CHECK(now.rx_packets_count == before.rx_packets_count);
    CHECK(now.conns_added == before.conns_added);
    guest.vsock->resume();
    CHECK(collect(guest, connection.ports, 12) == "while paused");
    guest.until([&] { return guest.vsock->connections() == 2; });
}

TEST_CASE("vsock: a driver that goes and comes back a hundred times while the host holds a connection") {
    VsockGuest guest;
    const int before = open_descriptors();
    for (int i = 0; i < 100; ++i) {
        FromHost connection(guest, 52);
        write_all(connection.fd.get(), "to the guest");  // in flight, in both directions
        guest.send(VsockOp::kData, connection.ports, "to the host");
        guest.reset();
        guest.until([&] {
            read_some(connection.fd.get());
            return at_end(connection.fd.get());
        });
        CHECK(guest.vsock->connections() == 0);
        guest.activate();
        // A packet of the old connection's is answered, so that the guest sees its end too.
        guest.send(VsockOp::kData, connection.ports, "late");
        expect(guest, VsockOp::kReset, connection.ports);
        FromHost again(guest, 52);
        write_all(again.fd.get(), "new");
        CHECK(collect(guest, again.ports, 3) == "new");
        guest.send(VsockOp::kReset, again.ports);
        guest.until([&] { return guest.vsock->connections() == 0; });
    }
    CHECK(open_descriptors() == before);
    CHECK(guest.vsock->counters().conns_added == guest.vsock->counters().conns_removed);
}

TEST_CASE("vsock: a host program that closes with data in flight both ways") {
    VsockGuest guest;
    guest.buf_alloc = kAll;
    for (int i = 0; i < 20; ++i) {
        FromHost connection(guest, 52);
        const std::string block = test_bytes(limits::kVsockPacket, i);
        for (int k = 0; k < 8; ++k) guest.send(VsockOp::kData, connection.ports, block);
        write_all(connection.fd.get(), block);
        connection.fd.reset();
        // Linux's EPIPE: the guest learns that nothing it sends is read any more.
        bool both = false;
        while (!both) {
            const auto packet = guest.next();
            both = packet.op() == VsockOp::kReset ||
                   (packet.op() == VsockOp::kShutdown && packet.header.flags == kVsockBoth);
        }
        guest.send(VsockOp::kData, connection.ports, block);
        guest.send(VsockOp::kReset, connection.ports);
        guest.until([&] { return guest.vsock->connections() == 0; });
    }
    const VsockCounters& counters = guest.vsock->counters();
    CHECK(counters.conns_added == 20);
    CHECK(counters.conns_removed == 20);
    CHECK(counters.tx_flush_fails > 0);
    CHECK(counters.tx_write_fails == 0);
    FromHost another(guest, 52);
}

TEST_CASE("vsock: the transport's reset is told by an event") {
    VsockGuest guest;
    FromHost connection(guest, 52);
    guest.vsock->reset_transport();
    CHECK(guest.vsock->connections() == 0);
    guest.events.write_descriptor(0, 0xF00000, 4, 2, 0);
    guest.events.make_available(0);
    guest.vsock->on_kick(2);
    const auto used = guest.events.used();
    REQUIRE(used);
    CHECK(used->written == 4);
    CHECK(*guest.memory.load<uint32_t>({0xF00000}) == VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
}

namespace {

constexpr RecordType kState{"test", "device", 1, Need::kRequired};
constexpr RecordType kVsockRecord{"vsok", "vsock", 1, Need::kRequired};

Result<void> restore(Vsock& vsock, std::span<const std::byte> bytes) {
    RecordReader reader = TRY(RecordReader::open(bytes, kState));
    TRY(vsock.restore(reader));
    return reader.finish();
}

}  // namespace

TEST_CASE("vsock: a restored device tells the guest at once that all connections have ended, and listens") {
    VsockGuest guest;
    FromHost connection(guest, 52);
    guest.vsock->pause([] {});
    RecordWriter writer;
    {
        const auto group = writer.group(kState);
        guest.vsock->save(writer);
    }
    const auto state = writer.take();

    VsockGuest other;
    other.reset();
    other.vsock->pause([] {});
    const auto restored = restore(*other.vsock, state);
    if (!restored) FAIL(restored.error().message);
    other.events.write_descriptor(0, 0xF00000, 4, 2, 0);
    other.events.make_available(0);
    other.activate();
    CHECK_FALSE(other.events.used());
    other.vsock->resume();
    other.until([&] { return other.events.used().has_value(); });
    CHECK(*other.memory.load<uint32_t>({0xF00000}) == VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
    // The guest may still say something of a connection that is no more.
    other.send(VsockOp::kData, connection.ports, "late");
    expect(other, VsockOp::kReset, connection.ports);
    FromHost again(other, 52);
    CHECK(again.ports.host == connection.ports.host + 1);
}

TEST_CASE("vsock: a state that it cannot have is refused by the field's name") {
    VsockGuest guest;
    guest.vsock->pause([] {});
    const auto why = [&](uint64_t cid, uint32_t port) {
        RecordWriter writer;
        {
            const auto group = writer.group(kState);
            const auto leaf = writer.leaf(kVsockRecord);
            writer.u64(cid);
            writer.u32(port);
        }
        const auto restored = restore(*guest.vsock, writer.take());
        return restored ? "" : restored.error().message;
    };
    CHECK(why(VsockGuest::kCid, 1u << 30) == "");
    CHECK(why(4, 1u << 30).starts_with("device.vsock.guest_cid: "));
    CHECK(why(VsockGuest::kCid, 1024).starts_with("device.vsock.next_host_port: "));
    CHECK(why(VsockGuest::kCid, 1u << 31).starts_with("device.vsock.next_host_port: "));
}

TEST_CASE("vsock: a peer that vanishes in the middle") {
    VsockGuest guest;
    for (int order = 0; order < 4; ++order) {
        FromHost connection(guest, 52);
        const std::string block(limits::kVsockPacket, 'x');
        if (order & 1)
            for (int i = 0; i < 10; ++i) guest.send(VsockOp::kData, connection.ports, block);
        if (order & 2) write_all(connection.fd.get(), block);
        connection.fd.reset();
        bool both = false;
        while (!both) {
            const auto packet = guest.next();
            both = packet.op() == VsockOp::kShutdown && packet.header.flags == kVsockBoth;
        }
        guest.send(VsockOp::kReset, connection.ports);
        guest.until([&] { return guest.vsock->connections() == 0; });
    }
}

TEST_CASE("vsock: descriptors that a host program passes are dropped, and its data is not") {
    VsockGuest guest;
    const int before = open_descriptors();
    FromHost connection(guest, 52);
    for (int i = 0; i < 3; ++i) {
        char byte = static_cast<char>('a' + i);
        iovec part{&byte, 1};
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        cmsghdr* const header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        *reinterpret_cast<int*>(CMSG_DATA(header)) = 0;
        REQUIRE(sendmsg(connection.fd.get(), &message, 0) == 1);
    }
    CHECK(collect(guest, connection.ports, 3) == "abc");
    CHECK(open_descriptors() == before + 2);
}

// ---- many ----

namespace {

void allow_many_descriptors() {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 4096);
    setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

TEST_CASE("vsock: a thousand connections at once, all sizes, all closed in any order") {
    allow_many_descriptors();
    const uint64_t seed = std::random_device()();
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const int before = open_descriptors();
    {
        VsockGuest guest({.queue_size = 256, .buffers = 100});
        struct One {
            OwnedFd fd;
            VsockPorts ports;
            std::string to_guest, to_host, at_guest, at_host;
            size_t written = 0;
            bool open = false, done = false;
        };
        std::map<uint64_t, One*> by_ports;
        std::vector<std::unique_ptr<One>> all;
        for (uint32_t port = 0; port < 1000; ++port) {
            auto one = std::make_unique<One>();
            one->fd = OwnedFd(host_connect(guest.uds_path()));
            one->ports.guest = port;
            one->to_guest = test_bytes(random() % 3000, port);
            one->to_host = test_bytes(random() % 3000, port + 5000);
            write_all(one->fd.get(), "CONNECT " + std::to_string(port) + "\n");
            all.push_back(std::move(one));
        }
        size_t open = 0, done = 0;
        const auto take_packet = [&] {
            const auto packet = guest.poll();
            if (!packet) return;
            guest.post_buffers(1);
            const VsockPorts ports{packet->header.dst_port, packet->header.src_port};
            One& one = *all.at(ports.guest);
            if (packet->op() == VsockOp::kRequest) {
                one.ports = ports;
                guest.send(VsockOp::kResponse, ports);
                guest.send(VsockOp::kData, ports, one.to_host);
                one.open = true;
                ++open;
            } else if (packet->op() == VsockOp::kData) {
                CHECK(ports == one.ports);
                one.at_guest += packet->data;
            }
        };
        guest.until([&] { return take_packet(), open == all.size(); });
        CHECK(guest.vsock->connections() == 1000);
        for (const auto& one : all) write_all(one->fd.get(), one->to_guest);
        guest.until([&] {
            for (int i = 0; i < 50; ++i) take_packet();
            for (const auto& one : all) {
                if (one->done) continue;
                one->at_host += read_some(one->fd.get(), 10000);
                const std::string ok = "OK " + std::to_string(one->ports.host) + "\n";
                if (one->at_host.size() == ok.size() + one->to_host.size() && one->at_guest == one->to_guest) {
                    CHECK(one->at_host == ok + one->to_host);
                    one->done = true;
                    ++done;
                }
            }
            return done == all.size();
        });
        std::shuffle(all.begin(), all.end(), random);
        for (auto& one : all) {
            switch (random() % 4) {
                case 0:
                    one->fd.reset();
                    break;
                case 1:
                    guest.send(VsockOp::kShutdown, one->ports, {}, kVsockBoth);
                    break;
                case 2:
                    guest.send(VsockOp::kReset, one->ports);
                    break;
                case 3:
                    shutdown(one->fd.get(), SHUT_WR);
                    guest.send(VsockOp::kShutdown, one->ports, {}, kVsockNoSend);
                    break;
            }
        }
        guest.until([&] {
            if (const auto packet = guest.poll()) {
                guest.post_buffers(1);
                if (packet->op() == VsockOp::kShutdown && packet->header.flags == kVsockBoth)
                    guest.send(VsockOp::kReset, {packet->header.dst_port, packet->header.src_port});
            }
            return guest.vsock->connections() == 0;
        });
        CHECK(guest.vsock->counters().conns_added == 1000);
        CHECK(guest.vsock->counters().conns_removed == 1000);
        CHECK(guest.vsock->counters().conn_event_fails == 0);
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("vsock: more than the limit are closed at once, or refused to the guest") {
    allow_many_descriptors();
    VsockGuest guest({.queue_size = 256, .buffers = 100});
    std::vector<OwnedFd> programs;
    for (unsigned i = 0; i < limits::kVsockConnections; ++i) {
        programs.emplace_back(host_connect(guest.uds_path()));
        if (i % 200 == 0) guest.turn();
    }
    guest.until([&] { return guest.vsock->connections() == limits::kVsockConnections; });
    for (int i = 0; i < 20; ++i) {
        const OwnedFd beyond(host_connect(guest.uds_path()));
        guest.until([&] { return at_end(beyond.get()); });
    }
    CHECK(guest.vsock->connections() == limits::kVsockConnections);
    guest.send(VsockOp::kRequest, {1, 1});
    expect(guest, VsockOp::kReset, {1, 1});
    programs.pop_back();
    guest.until([&] { return guest.vsock->connections() < limits::kVsockConnections; });
    const OwnedFd last(host_connect(guest.uds_path()));
    write_all(last.get(), "CONNECT 7\n");
    CHECK(guest.next().header.dst_port == 7);
}

TEST_CASE("vsock: ten thousand connects in a row leave no descriptor behind") {
    VsockGuest guest;
    const int before = open_descriptors();
    for (uint32_t i = 0; i < 10000; ++i) {
        const OwnedFd fd(host_connect(guest.uds_path()));
        write_all(fd.get(), "CONNECT 5\n");
        const auto request = guest.next();
        const VsockPorts ports{5, request.header.src_port};
        if (i % 2) {
            guest.send(VsockOp::kResponse, ports);
            guest.send(VsockOp::kShutdown, ports, {}, kVsockBoth);
        } else {
            guest.send(VsockOp::kReset, ports);
            continue;
        }
        const auto reset = guest.next();
        if (reset.op() != VsockOp::kReset) FAIL("no RST");
    }
    CHECK(guest.vsock->connections() == 0);
    CHECK(open_descriptors() == before);
}

TEST_CASE("vsock: streams of random pieces arrive whole, both ways, whatever the readers do") {
    const uint64_t seed = std::random_device()();
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    VsockGuest guest({.queue_size = 256, .buffer_size = static_cast<uint32_t>(random() % 2 ? 4096 : 65536 - 64)});
    guest.buf_alloc = static_cast<uint32_t>(20000 + random() % 200000);
    struct Stream {
        FromHost connection;
        std::string to_host, to_guest;
        size_t sent = 0, written = 0, read = 0, got = 0;
        uint32_t forwarded = 0, grant = 0;
    };
    std::vector<std::unique_ptr<Stream>> streams;
    for (uint32_t i = 0; i < 5; ++i) {
        streams.emplace_back(new Stream{FromHost(guest, i + 1), test_bytes(1 + random() % 3000000, i),
                                        test_bytes(1 + random() % 3000000, i + 9)});
        streams.back()->grant = limits::kVsockCreditLeast;  // until a header says more
    }
    guest.until([&] {
        bool all_done = true;
        if (const auto packet = guest.poll()) {
            guest.post_buffers(1);
            Stream& stream = *streams.at(packet->header.dst_port - 1);
            stream.forwarded = packet->header.fwd_cnt;
            stream.grant = packet->header.buf_alloc;
            if (packet->op() == VsockOp::kData) {
                REQUIRE(stream.to_guest.compare(stream.got, packet->data.size(), packet->data) == 0);
                stream.got += packet->data.size();
            }
            if (random() % 4 == 0 || packet->op() == VsockOp::kCreditRequest) {
                guest.fwd_cnt[stream.connection.ports.key()] = static_cast<uint32_t>(stream.got);
                guest.send(VsockOp::kCreditUpdate, stream.connection.ports);
            }
        }
        for (const auto& each : streams) {
            Stream& stream = *each;
            const int fd = stream.connection.fd.get();
            const size_t credit = stream.grant - (static_cast<uint32_t>(stream.sent) - stream.forwarded);
            const size_t piece =
                std::min({credit, random() % limits::kVsockPacket, stream.to_host.size() - stream.sent});
            if (piece > 0 && random() % 2) {
                guest.send(VsockOp::kData, stream.connection.ports,
                           std::string_view(stream.to_host).substr(stream.sent, piece));
                stream.sent += piece;
            }
            if (random() % 3 == 0 && stream.written < stream.to_guest.size()) {
                const size_t most = std::min<size_t>(stream.to_guest.size() - stream.written, 1 + random() % 100000);
                const ssize_t wrote = ::write(fd, stream.to_guest.data() + stream.written, most);
                if (wrote > 0) stream.written += static_cast<size_t>(wrote);
            }
            if (random() % 3 == 0) {
                const std::string data = read_some(fd, 1 + random() % 200000);
                REQUIRE(stream.to_host.compare(stream.read, data.size(), data) == 0);
                stream.read += data.size();
            }
            if (random() % 50 == 0) {
                guest.fwd_cnt[stream.connection.ports.key()] = static_cast<uint32_t>(stream.got);
                guest.send(VsockOp::kCreditRequest, stream.connection.ports);
            }
            all_done &= stream.read == stream.to_host.size() && stream.got == stream.to_guest.size();
        }
        return all_done;
    });
    CHECK(guest.vsock->counters().conn_event_fails == 0);
}
