// SPDX-License-Identifier: Apache-2.0
//
// A guest's side of a vsock device, for tests: receive buffers that are posted again when used, packets sent as told
// (right or wrong), and, where a test wants streams rather than packets, a small transport that keeps its credit.
#pragma once

#include <array>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "tests/support/fake_driver.h"
#include "virtio/vsock/device.h"

namespace wisp::test {

/// A folder of its own that goes with it.
class TempFolder {
public:
    TempFolder();
    ~TempFolder();
    std::string operator/(const char* name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

/// A Unix socket of the host with what tests do to it; blocking calls turn the device's loop meanwhile.
int host_connect(const std::string& path);
int host_listen(const std::string& path, int backlog = 64);

class VsockGuest final : public virtio::Interrupt {
public:
    static constexpr uint64_t kCid = 3;
    struct Options {
        uint16_t queue_size = 64;
        uint32_t buffer_size = 4096;  ///< of data, in each receive buffer
        unsigned buffers = 32;        ///< receive buffers posted from the start
        bool split_header = false;    ///< header and data in descriptors of their own
        bool repost = true;           ///< next() posts a buffer for the one that it used
        virtio::VsockSockets sockets{};
    };
    VsockGuest();
    explicit VsockGuest(Options options);
    ~VsockGuest();

    std::string uds_path() const { return folder / "v"; }

    struct Packet {
        virtio_vsock_hdr header{};
        std::string data;
        virtio::VsockOp op() const { return static_cast<virtio::VsockOp>(header.op); }
    };

    /// Sends a packet (a header with the guest's and host's addresses filled in, unless they are set).
    void send(virtio_vsock_hdr header, std::string_view data = {});
    void send(virtio::VsockOp op, virtio::VsockPorts ports, std::string_view data = {}, uint32_t flags = 0);
    /// As it is, any bytes, cut into segments of `cut`.
    void send_raw(std::string_view bytes, size_t cut = SIZE_MAX);
    /// The next packet from the device, if there is one.
    std::optional<Packet> poll();
    /// The next packet; fails the test if none comes.
    Packet next();
    /// Turns the loop until `done`; fails the test if that takes too long.
    void until(const std::function<bool()>& done);
    void turn() {
        until([n = 0]() mutable { return n++ == 3; });
    }
    void post_buffers(unsigned count);

    void activate();
    void reset();

    // What the guest says of its own credit
    uint32_t buf_alloc = 256 << 10;
    std::map<uint64_t, uint32_t> fwd_cnt;  // by ports

    void signal_used() override { ++interrupts; }
    void change_config(const std::function<void()>& change) override { change(); }
    void signal_needs_reset(const char* reason) override { needs_reset = reason; }

    const Options options;
    TempFolder folder;
    std::unique_ptr<Loop> loop = *Loop::create();
    GuestMemory memory = make_memory();
    FakeDriver rx, tx, events;
    std::array<virtio::Queue, 3> queues;
    std::unique_ptr<virtio::Vsock> vsock;
    int interrupts = 0;
    std::string needs_reset;

private:
    uint16_t free_slot();
    uint64_t buffer_at(unsigned index) const;
    unsigned per_buffer() const { return options.split_header ? 2 : 1; }
    std::deque<unsigned> unposted_;
    std::deque<uint16_t> free_slots_;  // of the transmit queue; each has a run of descriptors
};

/// Bytes that tell where they belong.
std::string test_bytes(size_t size, uint64_t seed);

}  // namespace wisp::test
