// SPDX-License-Identifier: Apache-2.0
//
// A transport's state: captured and applied, and as records: its registers, its queues, and the state of its device.
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>

#include <algorithm>
#include <bit>

#include "base/limits.h"
#include "virtio/mmio.h"

namespace wisp::virtio {

namespace {

constexpr RecordType kRegisters{"regs", "registers", 1, Need::kRequired};
constexpr RecordType kQueue{"queu", "queue", 1, Need::kRequired};

constexpr uint32_t kInterrupts = VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG;
constexpr uint32_t kDeviceBits = VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED;
// How far a driver can be (section 3.1.1).
constexpr uint32_t kDriverProgress[] = {
    0,
    VIRTIO_CONFIG_S_ACKNOWLEDGE,
    VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER,
    VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK,
    VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK,
};

void save_registers(const MmioTransport::State& state, RecordWriter& writer) {
    const auto leaf = writer.leaf(kRegisters);
    writer.u32(state.status);
    writer.u32(state.device_features_select);
    writer.u32(state.driver_features_select);
    writer.u64(state.driver_features);
    writer.u32(state.queue_select);
    writer.u32(state.interrupt_status);
    writer.u32(state.config_generation);
}

Result<void> restore_registers(RecordReader reader, uint64_t offered, MmioTransport::State& state) {
    state.status = TRY(reader.u32("status"));
    if (std::ranges::find(kDriverProgress, state.status & ~kDeviceBits) == std::end(kDriverProgress))
        return reader.refuse("status", "0x%x is no status that a driver can have reached", state.status);
    state.device_features_select = TRY(reader.u32("device_features_select"));
    state.driver_features_select = TRY(reader.u32("driver_features_select"));
    state.driver_features = TRY(reader.u64("driver_features"));
    if (state.driver_features & ~offered)
        return reader.refuse("driver_features", "the driver uses features 0x%lx that the device does not have",
                             state.driver_features & ~offered);
    if ((state.status & VIRTIO_CONFIG_S_FEATURES_OK) && !(state.driver_features & kFeatureVersion1))
        return reader.refuse("driver_features", "0x%lx is without VERSION_1", state.driver_features);
    state.queue_select = TRY(reader.u32("queue_select"));
    state.interrupt_status = TRY(reader.u32("interrupt_status", 0, kInterrupts));
    state.config_generation = TRY(reader.u32("config_generation"));
    return reader.finish();
}

void save_queue(const MmioTransport::State::QueueRegisters& queue, RecordWriter& writer, uint32_t index) {
    const auto leaf = writer.leaf(kQueue, index);
    writer.u8(static_cast<uint8_t>(queue.ready));
    writer.u16(queue.layout.size);
    writer.u64(queue.layout.descriptors.value);
    writer.u64(queue.layout.available.value);
    writer.u64(queue.layout.used.value);
    writer.u16(queue.layout.next_available);
    writer.u16(queue.layout.next_used);
}

// Where the rings of a ready queue may be is for Queue::create() to say.
Result<void> restore_queue(RecordReader reader, uint16_t max_size, MmioTransport::State::QueueRegisters& queue) {
    queue.ready = TRY(reader.boolean("ready"));
    queue.layout.size = TRY(reader.u16("size", 0, max_size));
    if (queue.ready && !std::has_single_bit(queue.layout.size))
        return reader.refuse("size", "%u is no power of two", queue.layout.size);
    queue.layout.descriptors.value = TRY(reader.u64("descriptors"));
    queue.layout.available.value = TRY(reader.u64("available"));
    queue.layout.used.value = TRY(reader.u64("used"));
    queue.layout.next_available = TRY(reader.u16("next_available"));
    queue.layout.next_used = TRY(reader.u16("next_used"));
    return reader.finish();
}

}  // namespace

MmioTransport::State MmioTransport::capture() const {
    const std::lock_guard lock(mutex_);
    State state = registers_;
    for (size_t i = 0; i < queues_.size(); ++i)
        if (queues_[i].enabled()) state.queues[i].layout = queues_[i].save();
    state.interrupt_status = interrupt_status_.load();
    state.config_generation = config_generation_.load();
    return state;
}

Result<void> MmioTransport::apply(const State& state) {
    if (state.queues.size() != registers_.queues.size())
        return fail("%s: the saved state has %zu queues, the device %zu", device_->name(), state.queues.size(),
                    registers_.queues.size());
    if (state.driver_features & ~offered_)
        return fail("%s: its driver uses features 0x%lx that the device does not have", device_->name(),
                    state.driver_features & ~offered_);
    device_->pause([] {});
    {
        const std::lock_guard lock(mutex_);
        registers_ = state;
        live_ = state.status & VIRTIO_CONFIG_S_DRIVER_OK;
    }
    interrupt_status_ = state.interrupt_status;
    config_generation_ = state.config_generation;
    // The saved VM may not have delivered an interrupt that it had raised. One too many does no harm.
    if (state.interrupt_status) signal_eventfd(irq_.get());
    if (!(state.status & VIRTIO_CONFIG_S_DRIVER_OK)) return {};
    if (state.status & VIRTIO_CONFIG_S_NEEDS_RESET) {
        phase_ = Phase::kBroken;
        return {};
    }
    if (auto activated = try_activate(state); !activated)
        return std::unexpected(std::move(activated).error().with_context(device_->name()));
    return {};
}

void MmioTransport::save_state(const State& state, RecordWriter& writer) {
    save_registers(state, writer);
    for (uint32_t i = 0; i < state.queues.size(); ++i) save_queue(state.queues[i], writer, i);
}

void MmioTransport::save(RecordWriter& writer) const {
    save_state(capture(), writer);
    const auto group = writer.group(kDeviceRecord);
    device_->save(writer);
}

Result<void> MmioTransport::restore(RecordReader& reader) {
    State state;
    state.queues.resize(queue_count());
    TRY(restore_registers(TRY(reader.record(kRegisters)), offered_, state));
    if (const uint32_t saved = TRY(reader.count(kQueue, limits::kMaxDeviceQueues)); saved != queue_count())
        return reader.refuse("queue", "%u were saved, and %s has %u", saved, device_->name(), queue_count());
    for (uint32_t i = 0; i < queue_count(); ++i)
        TRY(restore_queue(TRY(reader.record(kQueue, i)), device_->queue_max_sizes()[i], state.queues[i]));
    device_->pause([] {});
    auto device = TRY(reader.record(kDeviceRecord));
    TRY(device_->restore(device));
    TRY(device.finish());
    TRY(reader.finish());
    TRY_CONTEXT(reader.path(), apply(state));
    return {};
}

}  // namespace wisp::virtio
