// SPDX-License-Identifier: Apache-2.0
//
// Vsock: a virtio-vsock device (virtio 1.2, section 5.10), streams only, whose other end is Unix sockets of the host,
// by Firecracker's protocol: a host program connects to `uds_path` and asks for a port of the guest with a line; a
// guest's connection to port P of the host goes to the Unix socket `<uds_path>_P`.
//
// Owns the listening socket, the connections and an epoll instance that watches all their sockets: the loop watches
// that one. Data goes from the guest's buffers into a socket and back without a copy in between. Packets whose reader
// is behind wait where they are, in guest memory, as long as few do; then in a buffer of their connection, which their
// credit bounds. So a reader that stalls stalls nobody else.
//
// Threads: the loop's, but for read_config(). Trusts no byte of the guest (vsock_packet.h, vsock_connection.h), and
// host programs no further than that they may do to their own connections what they like.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/limits.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/result.h"
#include "base/unix_socket.h"
#include "virtio/device.h"
#include "virtio/vsock/packet.h"

namespace wisp::virtio {

struct VsockConfig {
    uint32_t guest_cid = kVsockFirstGuestCid;
    std::string uds_path{};
};

/// What happened since the device was made, by Firecracker's names.
struct VsockCounters {
    uint64_t activate_fails = 0;
    uint64_t rx_queue_event_fails = 0;  ///< faulty buffers of the guest
    uint64_t tx_queue_event_fails = 0;  ///< faulty packets of the guest
    uint64_t ev_queue_event_fails = 0;
    uint64_t muxer_event_fails = 0;  ///< host programs that could not be accepted, or asked wrongly
    uint64_t conn_event_fails = 0;   ///< packets that do not fit their connection
    uint64_t rx_queue_event_count = 0;
    uint64_t tx_queue_event_count = 0;
    uint64_t rx_bytes_count = 0;  ///< to the guest
    uint64_t tx_bytes_count = 0;  ///< from the guest
    uint64_t rx_packets_count = 0;
    uint64_t tx_packets_count = 0;
    uint64_t conns_added = 0;
    uint64_t conns_killed = 0;  ///< by a time-out or a fault
    uint64_t conns_removed = 0;
    uint64_t killq_resync = 0;    ///< answers that were left out because too many waited
    uint64_t tx_flush_fails = 0;  ///< data of the guest that nobody was left to read
    uint64_t tx_write_fails = 0;
    uint64_t rx_read_fails = 0;
};

class Vsock final : public Device, private PollSource {
public:
    /// Listens at the path, unless `listener` does already. Errors name the path and the reason.
    static Result<std::unique_ptr<Vsock>> create(Loop& loop, VsockConfig config,
                                                 std::shared_ptr<UnixListener> listener = nullptr);
    ~Vsock();

    const VsockConfig& config() const { return config_; }
    const VsockCounters& counters() const { return counters_; }
    /// Connections, with those that are being opened or ended.
    unsigned connections() const { return static_cast<unsigned>(limits::kVsockConnections - free_.size()); }
    /// For the end of the process, when no destructor will run.
    void unlink_socket() { listener_->unlink(); }
    /// Ends all connections and tells the driver so, by an event (section 5.10.6.7): after a restore.
    void reset_transport();

    DeviceId id() const override { return DeviceId::kVsock; }
    const char* name() const override { return "vsock"; }
    uint64_t features() const override { return 0; }  // streams, without saying so (section 5.10.3)
    std::span<const uint16_t> queue_max_sizes() const override { return kQueueSizes; }
    void read_config(uint32_t offset, std::span<std::byte> data) override;
    Result<void> activate(Activation activation) override;
    void on_kick(unsigned queue) override;
    void reset(std::move_only_function<void()> drained) override;
    void pause(std::move_only_function<void()> paused) override;
    void resume() override;

    struct Link;  // a connection and its socket: vsock_link.h

private:
    enum Queues : unsigned { kRx, kTx, kEvents, kQueueCount };
    static constexpr uint16_t kQueueSizes[kQueueCount] = {limits::kMaxQueueSize, limits::kMaxQueueSize,
                                                          limits::kMaxQueueSize};
    enum class Activity : uint8_t { kInactive, kActive, kBroken };
    struct Parked;
    class ParkedPool;
    struct Work {};
    struct Dirty {};
    struct Retry {};
    struct Gone {};

    Vsock(Loop& loop, VsockConfig config);
    Result<void> open();

    bool may_serve() const { return activity_ == Activity::kActive && !paused_; }
    Queue& queue(Queues index) { return activation_->queues[index]; }
    void serve();
    bool has_work();
    void renew_budget();
    void publish();
    void set_broken(const char* reason);
    bool poll() override;
    bool arm() override;

    // From the guest: vsock_from_guest.cc
    void take_packets();
    void take_packet(Chain& chain);
    void take_data(Link& link, Chain& chain, std::span<GuestSlice> data, uint32_t length);
    void refuse(Chain& chain, const virtio_vsock_hdr& header, const VsockRefusal& refusal);
    void drop(Chain& chain, const char* reason);
    void open_for_guest(const VsockPacket& packet);
    void answer_with_reset(const virtio_vsock_hdr& header);

    // To the guest: vsock_to_guest.cc
    struct Buffer {
        Chain chain;
        WritableSlice header;      // empty: cut into the segments in split_header_
        uint32_t capacity = 0;  // bytes of data
    };
    enum class For : uint8_t { kHeader, kData };
    void fill_buffers();
    bool fill_one();
    bool take_buffers(uint64_t wanted, For what);
    const char* prepare_buffer(Buffer& buffer, For what);
    void return_buffers(unsigned from);
    void send(Buffer& buffer, const virtio_vsock_hdr& header);
    bool send_due(Link& link);
    bool send_data(Link& link);
    void deliver(Link& link, uint32_t size);
    bool wants_guest(Link& link);
    void send_event();

    // To and from the host: vsock_host.cc
    void on_host_ready(uint32_t events);
    void take_host_events();
    void on_link_ready(Link& link, uint32_t events);
    void accept_all();
    void read_line(Link& link);
    Received read_host(Link& link, std::span<const iovec> parts);
    void connect(Link& link);
    void flush(Link& link);
    ssize_t write_out(Link& link, size_t& asked);
    void on_written(Link& link, size_t size);
    void copy_parked(Link& link);
    void lose_data(Link& link);
    void retry();

    // Links: vsock_links.cc
    Link* add_link(OwnedFd fd);
    void set_ports(Link& link, VsockPorts ports);
    Link* find(VsockPorts ports);
    uint32_t take_credit(Link& link);
    uint32_t choose_host_port(uint32_t guest_port);
    Result<void> watch(Link& link);
    void update(Link& link);
    void act(Link& link);
    void set_deadline(Link& link, uint64_t delay_ms);
    void on_timer();
    void arm_timer();
    void release(Link& link);
    void bury();
    void release_all();

    Loop& loop_;
    const VsockConfig config_;
    VsockCounters counters_;
    std::shared_ptr<UnixListener> listener_;  // not null, once there is a device

    Activity activity_ = Activity::kInactive;
    bool paused_ = false;
    uint64_t paused_at_ns_ = 0;
    bool armed_ = false;  // the driver kicks, because nobody looks
    bool event_due_ = false;
    bool may_accept_ = true;  // a connection may be waiting
    std::optional<Activation> activation_;
    Polling polling_;
    struct {
        uint64_t turn = UINT64_MAX;
        unsigned from_guest = 0, to_guest = 0;  // packets
        int64_t from_guest_bytes = 0, to_guest_bytes = 0;
    } budget_;

    // Links live in fixed slots. Lists, and what a link holds of the pool, before them.
    std::unique_ptr<ParkedPool> parked_;
    TaggedList<Link, Work> work_;    // have something for the guest
    TaggedList<Link, Dirty> dirty_;  // have something for the host that was not tried yet
    TaggedList<Link, Retry> retry_;  // the host's backlog is full
    TaggedList<Link, Gone> gone_;
    std::vector<std::unique_ptr<Link>> links_;
    std::vector<uint16_t> free_;  // slots
    std::unordered_map<uint64_t, Link*> by_ports_;
    uint64_t credit_left_ = limits::kVsockCreditTotal;
    uint32_t next_host_port_;
    uint32_t generation_ = 0;
    std::vector<virtio_vsock_hdr> resets_;  // answers to packets of no connection

    // Scratch
    std::vector<GuestSlice> segments_;
    std::vector<iovec> parts_;
    std::vector<Buffer> buffers_;
    unsigned buffer_count_ = 0;
    std::vector<WritableSlice> split_header_;

    OwnedFd epoll_;
    MemberWatcher<Vsock, &Vsock::on_host_ready> on_host_{*this};
    Watch host_watch_;
    Timer timer_;
    uint64_t earliest_ns_ = 0;
    Timer retry_timer_;
};

}  // namespace wisp::virtio
