// SPDX-License-Identifier: Apache-2.0
#include "tests/support/vsock_guest.h"

#define VIRTIO_RING_NO_LEGACY
#include <linux/virtio_ring.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>

namespace wisp::test {

using namespace virtio;

namespace {

constexpr uint64_t kFeatures = kFeatureVersion1 | kFeatureEventIdx | kFeatureIndirectDesc;
constexpr uint64_t kRxBase = 0x10000, kTxBase = 0x20000, kEventBase = 0x30000;
constexpr uint64_t kRxBuffers = 0x100000, kTxBuffers = 0x800000;
constexpr unsigned kTxSegments = 4;        // descriptors of one packet
constexpr uint64_t kTxSlotSize = 0x20000;  // bytes of one packet
constexpr uint64_t kRxSlotSize = 0x10000 + 64;

sockaddr_un address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    REQUIRE(path.size() < sizeof address.sun_path);
    memcpy(address.sun_path, path.c_str(), path.size() + 1);
    return address;
}

}  // namespace

TempFolder::TempFolder() {
    char name[] = "/tmp/wisp-vsock-XXXXXX";
    REQUIRE(mkdtemp(name));
    path_ = name;
}

TempFolder::~TempFolder() {
    std::filesystem::remove_all(path_);
}

int host_connect(const std::string& path) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const sockaddr_un address = address_of(path);
    REQUIRE(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    return fd;
}

int host_listen(const std::string& path, int backlog) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const sockaddr_un address = address_of(path);
    REQUIRE(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(listen(fd, backlog) == 0);
    return fd;
}

std::string test_bytes(size_t size, uint64_t seed) {
    std::string bytes(size, '\0');
    uint64_t state = seed * 0x9e3779b97f4a7c15ull + 1;
    for (char& byte : bytes) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        byte = static_cast<char>(state >> 56);
    }
    return bytes;
}

VsockGuest::VsockGuest() : VsockGuest(Options()) {}

VsockGuest::VsockGuest(Options wanted)
    : options(wanted),
      rx(memory, wanted.queue_size, kRxBase),
      tx(memory, wanted.queue_size, kTxBase),
      events(memory, wanted.queue_size, kEventBase) {
    auto created = Vsock::create(*loop, {static_cast<uint32_t>(kCid), uds_path()}, nullptr, wanted.sockets);
    if (!created) FAIL(created.error().message);
    vsock = *std::move(created);
    activate();
}

VsockGuest::~VsockGuest() {
    reset();
}

void VsockGuest::activate() {
    FakeDriver* const drivers[] = {&rx, &tx, &events};
    for (unsigned i = 0; i < 3; ++i) queues[i] = *Queue::create(memory, drivers[i]->layout(), kFeatures, 256);
    free_slots_.clear();
    unposted_.clear();
    for (uint16_t slot = 0; slot < options.queue_size / kTxSegments; ++slot) free_slots_.push_back(slot);
    for (unsigned i = 0; i < options.queue_size / per_buffer() && i < 100; ++i) unposted_.push_back(i);
    post_buffers(options.buffers);
    REQUIRE(vsock->activate({memory, kFeatures, queues, *this}).has_value());
    for (unsigned i = 0; i < 3; ++i) vsock->on_kick(i);
}

void VsockGuest::reset() {
    bool drained = false;
    vsock->reset([&] { drained = true; });
    REQUIRE(drained);
    rx.restart();
    tx.restart();
    events.restart();
    fwd_cnt.clear();
    needs_reset.clear();
}

uint64_t VsockGuest::buffer_at(unsigned index) const {
    return kRxBuffers + index * kRxSlotSize;
}

void VsockGuest::post_buffers(unsigned count) {
    constexpr uint32_t kHeader = sizeof(virtio_vsock_hdr);
    for (; count > 0 && !unposted_.empty(); --count) {
        const unsigned index = unposted_.front();
        unposted_.pop_front();
        const auto head = static_cast<uint16_t>(index * per_buffer());
        if (options.split_header) {
            rx.write_descriptor(head, buffer_at(index), kHeader, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, head + 1);
            rx.write_descriptor(head + 1, buffer_at(index) + kHeader, options.buffer_size, VRING_DESC_F_WRITE, 0);
        } else {
            rx.write_descriptor(head, buffer_at(index), kHeader + options.buffer_size, VRING_DESC_F_WRITE, 0);
        }
        rx.make_available(head);
    }
    vsock->on_kick(0);
}

std::optional<VsockGuest::Packet> VsockGuest::poll() {
    const auto used = rx.used();
    if (!used) return std::nullopt;
    const unsigned index = used->head / per_buffer();
    REQUIRE(used->written >= sizeof(virtio_vsock_hdr));
    Packet packet;
    packet.header = *memory.load<virtio_vsock_hdr>({buffer_at(index)});
    REQUIRE(used->written == sizeof packet.header + packet.header.len);
    packet.data = rx.bytes(buffer_at(index) + sizeof packet.header, packet.header.len);
    unposted_.push_back(index);
    return packet;
}

VsockGuest::Packet VsockGuest::next() {
    std::optional<Packet> packet;
    until([&] { return (packet = poll()).has_value(); });
    if (options.repost) post_buffers(1);
    return *packet;
}

void VsockGuest::until(const std::function<bool()>& done) {
    const uint64_t give_up_ns = monotonic_ns() + 20'000'000'000;
    while (!done()) {
        if (monotonic_ns() > give_up_ns) FAIL("waited in vain");
        REQUIRE(loop->turn(1'000'000).has_value());
    }
}

uint16_t VsockGuest::free_slot() {
    until([&] {
        while (const auto used = tx.used()) free_slots_.push_back(static_cast<uint16_t>(used->head / kTxSegments));
        return !free_slots_.empty();
    });
    const uint16_t slot = free_slots_.front();
    free_slots_.pop_front();
    return slot;
}

void VsockGuest::send_raw(std::string_view bytes, size_t cut) {
    const uint16_t slot = free_slot();
    const uint64_t at = kTxBuffers + slot * kTxSlotSize;
    REQUIRE(memory.write({at}, std::as_bytes(std::span(bytes))));
    const auto head = static_cast<uint16_t>(slot * kTxSegments);
    size_t offset = 0;
    for (unsigned i = 0; i < kTxSegments; ++i) {
        const size_t size = i + 1 == kTxSegments ? bytes.size() - offset : std::min(cut, bytes.size() - offset);
        const bool last = offset + size == bytes.size();
        tx.write_descriptor(static_cast<uint16_t>(head + i), at + offset, static_cast<uint32_t>(size),
                            last ? 0 : VRING_DESC_F_NEXT, static_cast<uint16_t>(head + i + 1));
        offset += size;
        if (last) break;
    }
    tx.make_available(head);
    vsock->on_kick(1);
}

void VsockGuest::send(virtio_vsock_hdr header, std::string_view data) {
    std::string bytes(sizeof header, '\0');
    memcpy(bytes.data(), &header, sizeof header);
    send_raw(bytes.append(data), sizeof header);
}

void VsockGuest::send(VsockOp op, VsockPorts ports, std::string_view data, uint32_t flags) {
    virtio_vsock_hdr header{};
    header.src_cid = kCid;
    header.dst_cid = kVsockHostCid;
    header.src_port = ports.guest;
    header.dst_port = ports.host;
    header.len = static_cast<uint32_t>(data.size());
    header.type = VIRTIO_VSOCK_TYPE_STREAM;
    header.op = static_cast<uint16_t>(op);
    header.flags = flags;
    header.buf_alloc = buf_alloc;
    header.fwd_cnt = fwd_cnt[ports.key()];
    send(header, data);
}

}  // namespace wisp::test
