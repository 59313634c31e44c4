// SPDX-License-Identifier: Apache-2.0
//
// A vsock device's life: what it shows the driver, activation, reset, pause; and one turn of its work.
#include "virtio/vsock/device.h"

#include "base/log.h"

namespace wisp::virtio {

namespace {

constexpr RecordType kVsock{"vsok", "vsock", 1, Need::kRequired};

}  // namespace

// ---- construction ----

Vsock::Vsock(Loop& loop, VsockConfig config, const VsockSockets& sockets)
    : common_(loop, std::move(config), *this, sockets),
      links_(common_, [this] { serve(); }),
      host_(common_, links_, [this] { serve(); }),
      receiver_(common_, links_, host_),
      transmitter_(common_, links_, host_, [this](const virtio_vsock_hdr& reset) { receiver_.send_reset(reset); }) {}

Vsock::~Vsock() = default;

Result<std::unique_ptr<Vsock>> Vsock::create(Loop& loop, VsockConfig config, std::shared_ptr<UnixListener> listener,
                                             const VsockSockets& sockets) {
    std::unique_ptr<Vsock> vsock(new Vsock(loop, std::move(config), sockets));
    TRY_CONTEXT("vsock", vsock->host_.open(std::move(listener)));
    TRY_CONTEXT("vsock", vsock->links_.reserve());
    return vsock;
}

// ---- what the driver sees ----

void Vsock::read_config(uint32_t offset, std::span<std::byte> data) {
    copy_config(virtio_vsock_config{common_.config.guest_cid}, offset, data);
}

// ---- life ----

Result<void> Vsock::activate(Activation activation) {
    for (unsigned i = 0; i < VsockCommon::kQueueCount; ++i)
        if (!activation.queues[i].enabled()) {
            ++common_.counters.activate_fails;
            return fail("queue %u is not set up", i);
        }
    common_.queues.activate(activation);
    receiver_.activate();
    transmitter_.activate();
    if (!common_.queues.paused()) host_.start();  // programs that came before the driver
    return {};
}

void Vsock::reset(std::move_only_function<void()> drained) {
    common_.queues.start_drain();
    abandon();
    links_.remove_released();
    common_.queues.deactivate();
    drained();
}

// What is parked goes into its connection's buffer: then the queues are as a snapshot needs them.
void Vsock::pause(std::move_only_function<void()> paused) {
    if (!common_.queues.paused()) {
        host_.stop();
        links_.pause();
        if (common_.queues.active()) common_.queues.publish();
        common_.queues.pause();
    }
    paused();
}

void Vsock::resume() {
    if (!common_.queues.paused()) return;
    common_.queues.resume();
    links_.resume();
    host_.start();
}

void Vsock::save(RecordWriter& writer) const {
    const auto leaf = writer.leaf(kVsock);
    writer.u64(common_.config.guest_cid);
    links_.save(writer);
}

Result<void> Vsock::restore(RecordReader& reader) {
    RecordReader leaf = TRY(reader.record(kVsock));
    const uint64_t cid = common_.config.guest_cid;
    TRY(leaf.u64("guest_cid", cid, cid));  // the driver has read it
    TRY(links_.restore(leaf));
    TRY(leaf.finish());
    receiver_.send_transport_reset();
    return {};
}

void Vsock::reset_transport() {
    links_.release_all();
    links_.remove_released();
    receiver_.abandon();
    receiver_.send_transport_reset();
    serve();
}

// All connections end, without a word to the driver.
void Vsock::abandon() {
    host_.stop();
    links_.release_all();
    receiver_.abandon();
}

// ---- a turn ----

void Vsock::on_kick(unsigned queue) {
    if (!common_.queues.serving()) return;
    if (queue == VsockCommon::kRx) ++common_.counters.rx_queue_event_count;
    if (queue == VsockCommon::kTx) ++common_.counters.tx_queue_event_count;
    serve();
}

// Does a batch of what there is to do in each direction; what is left comes back by poll() and arm().
void Vsock::serve() {
    if (!common_.queues.serving()) return;
    common_.queues.disable_notifications(VsockCommon::kTx);
    if (transmitter_.has_work()) transmitter_.serve();
    if (common_.queues.serving()) receiver_.serve();
    if (common_.queues.active())
        common_.queues.publish();
    else
        abandon();  // a ring is broken
    links_.remove_released();
}

// The loop looks at the queues by itself, so the driver need not kick until the loop is about to sleep.
bool Vsock::poll() {
    if (!common_.queues.serving()) return false;
    if (host_.has_work()) return host_.take_events(), true;
    if (!transmitter_.has_work() && !receiver_.has_work()) return false;
    serve();
    return true;
}

bool Vsock::arm() {
    if (!common_.queues.serving()) return false;
    bool any = host_.has_work() || transmitter_.has_work();
    any |= common_.queues.enable_notifications(VsockCommon::kTx);
    any |= receiver_.arm();
    return any;
}

}  // namespace wisp::virtio
