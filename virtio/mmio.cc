// SPDX-License-Identifier: Apache-2.0
#include "virtio/mmio.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <sys/epoll.h>

#include <cstring>

#include "base/check.h"
#include "base/limits.h"
#include "base/log.h"

namespace wisp::virtio {

namespace {

constexpr uint32_t kMagic = 0x74726976;  // "virt"
constexpr uint32_t kVersion = 2;
constexpr uint32_t kVendor = 0x50534957;  // "WISP"

// What every device has through this transport and our queues (section 6).
constexpr uint64_t kRingFeatures = kFeatureVersion1 | kFeatureEventIdx | kFeatureIndirectDesc;

constexpr uint32_t kAcknowledge = VIRTIO_CONFIG_S_ACKNOWLEDGE;
constexpr uint32_t kDriver = VIRTIO_CONFIG_S_DRIVER;
constexpr uint32_t kFeaturesOk = VIRTIO_CONFIG_S_FEATURES_OK;
constexpr uint32_t kDriverOk = VIRTIO_CONFIG_S_DRIVER_OK;
constexpr uint32_t kNeedsReset = VIRTIO_CONFIG_S_NEEDS_RESET;
constexpr uint32_t kFailed = VIRTIO_CONFIG_S_FAILED;

// The ways a driver may move the status (section 3.1.1). Besides, it may write 0 (reset) and set FAILED at any time.
constexpr struct {
    uint32_t from, to;
} kTransitions[] = {
    {0, kAcknowledge},
    {kAcknowledge, kAcknowledge | kDriver},
    {kAcknowledge | kDriver, kAcknowledge | kDriver | kFeaturesOk},
    {kAcknowledge | kDriver | kFeaturesOk, kAcknowledge | kDriver | kFeaturesOk | kDriverOk},
};

bool legal_transition(uint32_t from, uint32_t to) {
    for (const auto& step : kTransitions)
        if (step.from == from && step.to == to) return true;
    return false;
}

// The half of a 64-bit feature word that a select register names; beyond bit 63 there are none.
uint32_t feature_word(uint64_t features, uint32_t select) {
    return select > 1 ? 0 : static_cast<uint32_t>(features >> (32 * select));
}

void set_low(GuestAddress& address, uint32_t value) {
    address.value = (address.value & ~0xffffffffull) | value;
}
void set_high(GuestAddress& address, uint32_t value) {
    address.value = (address.value & 0xffffffffull) | static_cast<uint64_t>(value) << 32;
}

}  // namespace

MmioTransport::MmioTransport(Loop& loop, const GuestMemory& memory, std::unique_ptr<Device> device)
    : memory_(memory),
      device_(std::move(device)),
      offered_(device_->features() | kRingFeatures),
      activate_bell_(loop, [this] { activate(); }),
      drain_bell_(loop, [this] { drain(); }) {
    registers_.queues.resize(device_->queue_max_sizes().size());
}

// No vCPU may be waiting for a reset any more.
MmioTransport::~MmioTransport() = default;

Result<std::unique_ptr<MmioTransport>> MmioTransport::create(Loop& loop, const GuestMemory& memory,
                                                             std::unique_ptr<Device> device) {
    const unsigned queues = static_cast<unsigned>(device->queue_max_sizes().size());
    CHECK(queues <= limits::kMaxDeviceQueues);
    std::unique_ptr<MmioTransport> transport(new MmioTransport(loop, memory, std::move(device)));
    transport->irq_ = TRY(create_eventfd());
    for (unsigned i = 0; i < queues; ++i) {
        auto kick = std::make_unique<Kick>(*transport, i);
        kick->event = TRY(create_eventfd());
        kick->watch = TRY(loop.watch(kick->event.get(), EPOLLIN, *kick));
        transport->kicks_.push_back(std::move(kick));
    }
    return transport;
}

// ---- vCPU threads ----

void MmioTransport::handle_read(uint64_t offset, std::span<std::byte> data) {
    if (offset >= VIRTIO_MMIO_CONFIG) {
        const std::lock_guard lock(mutex_);
        device_->read_config(static_cast<uint32_t>(offset - VIRTIO_MMIO_CONFIG), data);
        return;
    }
    // Section 4.2.2.2: registers are accessed with 32 bits, aligned.
    if (data.size() != sizeof(uint32_t) || offset % sizeof(uint32_t) != 0) {
        LOG_LIMITED("%s: read of %zu bytes at register 0x%lx ignored", device_->name(), data.size(), offset);
        return;
    }
    uint32_t value;
    if (offset == VIRTIO_MMIO_INTERRUPT_STATUS) {  // on the path of every interrupt: without the lock
        value = interrupt_status_.load();
    } else {
        const std::lock_guard lock(mutex_);
        value = read_register(static_cast<uint32_t>(offset));
    }
    memcpy(data.data(), &value, sizeof value);
}

uint32_t MmioTransport::read_register(uint32_t offset) const {
    const uint32_t selected = registers_.queue_select;
    const bool queue_exists = selected < registers_.queues.size();
    switch (offset) {
        case VIRTIO_MMIO_MAGIC_VALUE:
            return kMagic;
        case VIRTIO_MMIO_VERSION:
            return kVersion;
        case VIRTIO_MMIO_DEVICE_ID:
            return static_cast<uint32_t>(device_->id());
        case VIRTIO_MMIO_VENDOR_ID:
            return kVendor;
        case VIRTIO_MMIO_DEVICE_FEATURES:
            return feature_word(offered_, registers_.device_features_select);
        case VIRTIO_MMIO_QUEUE_NUM_MAX:
            return queue_exists ? device_->queue_max_sizes()[selected] : 0;
        case VIRTIO_MMIO_QUEUE_READY:
            return queue_exists ? registers_.queues[selected].ready : 0;
        case VIRTIO_MMIO_STATUS:
            return registers_.status;
        case VIRTIO_MMIO_CONFIG_GENERATION:
            return config_generation_.load();
        // Section 4.2.2: a shared memory region that does not exist has length and base of all ones. We have none.
        case VIRTIO_MMIO_SHM_LEN_LOW:
        case VIRTIO_MMIO_SHM_LEN_HIGH:
        case VIRTIO_MMIO_SHM_BASE_LOW:
        case VIRTIO_MMIO_SHM_BASE_HIGH:
            return UINT32_MAX;
        default:
            return 0;
    }
}

void MmioTransport::handle_write(uint64_t offset, std::span<const std::byte> data) {
    if (offset >= VIRTIO_MMIO_CONFIG) {
        const std::lock_guard lock(mutex_);
        device_->write_config(static_cast<uint32_t>(offset - VIRTIO_MMIO_CONFIG), data);
        return;
    }
    if (data.size() != sizeof(uint32_t) || offset % sizeof(uint32_t) != 0) {
        LOG_LIMITED("%s: write of %zu bytes at register 0x%lx ignored", device_->name(), data.size(), offset);
        return;
    }
    uint32_t value;
    memcpy(&value, data.data(), sizeof value);
    switch (offset) {
        // These two are on the path of every request, and need no lock.
        case VIRTIO_MMIO_QUEUE_NOTIFY:
            if (value < queue_count()) signal_eventfd(kick_fd(value));
            return;
        case VIRTIO_MMIO_INTERRUPT_ACK:
            interrupt_status_.fetch_and(~value);
            return;
        default:
            break;
    }
    std::unique_lock lock(mutex_);
    if (resetting_ && offset != VIRTIO_MMIO_STATUS)
        return refuse("during a reset", static_cast<uint32_t>(offset), value);
    write_register(static_cast<uint32_t>(offset), value, lock);
}

void MmioTransport::write_register(uint32_t offset, uint32_t value, std::unique_lock<std::mutex>& lock) {
    switch (offset) {
        case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
            registers_.device_features_select = value;
            break;
        case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
            registers_.driver_features_select = value;
            break;
        case VIRTIO_MMIO_DRIVER_FEATURES:
            write_driver_features(value);
            break;
        case VIRTIO_MMIO_QUEUE_SEL:
            registers_.queue_select = value;
            break;
        case VIRTIO_MMIO_STATUS:
            write_status(value, lock);
            break;
        case VIRTIO_MMIO_SHM_SEL:
            break;
        case VIRTIO_MMIO_QUEUE_NUM:
        case VIRTIO_MMIO_QUEUE_READY:
        case VIRTIO_MMIO_QUEUE_DESC_LOW:
        case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
        case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
        case VIRTIO_MMIO_QUEUE_USED_LOW:
        case VIRTIO_MMIO_QUEUE_USED_HIGH:
            write_queue_register(offset, value);
            break;
        default:
            refuse("to a register that is not there or read-only", offset, value);
    }
}

void MmioTransport::refuse(const char* what, uint32_t offset, uint32_t value) const {
    LOG_LIMITED("%s: write of 0x%x to register 0x%x ignored: %s (status 0x%x)", device_->name(), value, offset, what,
                registers_.status);
}

bool MmioTransport::has_status(uint32_t all_of, uint32_t none_of) const {
    return (registers_.status & all_of) == all_of && !(registers_.status & none_of);
}

void MmioTransport::write_driver_features(uint32_t value) {
    if (!has_status(kDriver, kFeaturesOk | kFailed))
        return refuse("features are not being negotiated", VIRTIO_MMIO_DRIVER_FEATURES, value);
    const uint32_t select = registers_.driver_features_select;
    if (select > 1) return;
    const uint64_t mask = 0xffffffffull << (32 * select);
    registers_.driver_features = (registers_.driver_features & ~mask) | static_cast<uint64_t>(value) << (32 * select);
}

// A queue may be set up between FEATURES_OK and DRIVER_OK, until it is ready. After that its layout does not change.
void MmioTransport::write_queue_register(uint32_t offset, uint32_t value) {
    if (!has_status(kFeaturesOk, kDriverOk | kFailed)) return refuse("not the time to set up queues", offset, value);
    if (registers_.queue_select >= registers_.queues.size()) return refuse("no such queue", offset, value);
    State::QueueRegisters& queue = registers_.queues[registers_.queue_select];
    if (offset == VIRTIO_MMIO_QUEUE_READY) {
        queue.ready = value & 1;
        return;
    }
    if (queue.ready) return refuse("the queue is ready", offset, value);
    switch (offset) {
        case VIRTIO_MMIO_QUEUE_NUM:
            if (value > device_->queue_max_sizes()[registers_.queue_select])
                return refuse("longer than the queue can be", offset, value);
            queue.layout.size = static_cast<uint16_t>(value);
            break;
        case VIRTIO_MMIO_QUEUE_DESC_LOW:
            set_low(queue.layout.descriptors, value);
            break;
        case VIRTIO_MMIO_QUEUE_DESC_HIGH:
            set_high(queue.layout.descriptors, value);
            break;
        case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
            set_low(queue.layout.available, value);
            break;
        case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
            set_high(queue.layout.available, value);
            break;
        case VIRTIO_MMIO_QUEUE_USED_LOW:
            set_low(queue.layout.used, value);
            break;
        case VIRTIO_MMIO_QUEUE_USED_HIGH:
            set_high(queue.layout.used, value);
            break;
        default:
            break;
    }
}

bool MmioTransport::accept_features() const {
    return (registers_.driver_features & ~offered_) == 0 && (registers_.driver_features & kFeatureVersion1);
}

void MmioTransport::write_status(uint32_t value, std::unique_lock<std::mutex>& lock) {
    if (value == 0) return request_reset(lock);
    if (resetting_) return refuse("during a reset", VIRTIO_MMIO_STATUS, value);
    if (value & kFailed) {
        registers_.status |= kFailed;
        return;
    }
    // NEEDS_RESET is the device's bit: a driver that writes back what it read does not change it.
    const uint32_t from = registers_.status & ~kNeedsReset;
    const uint32_t to = value & ~kNeedsReset;
    if (to == from) return;
    if (!legal_transition(from, to)) return refuse("illegal change of status", VIRTIO_MMIO_STATUS, value);
    // Section 3.1.1, step 6: the driver reads back whether FEATURES_OK stayed.
    if ((to & ~from) == kFeaturesOk && !accept_features())
        return refuse("features were not offered, or without VERSION_1", VIRTIO_MMIO_STATUS, value);
    registers_.status |= to;
    if ((to & ~from) == kDriverOk) {
        live_ = true;
        // The vCPU goes on at once. A kick that comes before the activation stays in its eventfd, and each queue is
        // served then.
        activate_bell_.ring();
    }
}

void MmioTransport::request_reset(std::unique_lock<std::mutex>& lock) {
    if (!live_) return clear_registers();
    if (!resetting_) {
        resetting_ = true;
        drain_bell_.ring();
    }
    // Section 2.4.2: the status reads 0 only when the reset is complete, and the driver may free its buffers after
    // that.
    drained_.wait(lock, [this] { return !resetting_; });
}

void MmioTransport::clear_registers() {
    const size_t queues = registers_.queues.size();
    registers_ = State{};
    registers_.queues.resize(queues);
    interrupt_status_ = 0;
}

// ---- loop thread ----

void MmioTransport::on_kick(unsigned queue) {
    // A kick before activation, after a fault or after a reset has no meaning: activate() looks at each queue.
    if (phase_ == Phase::kActive) device_->on_kick(queue);
}

// The bell may be answered after that of a reset which came later, or for a DRIVER_OK that was answered already: only
// the registers tell what the driver wants now.
void MmioTransport::activate() {
    State registers;
    {
        const std::lock_guard lock(mutex_);
        if (phase_ != Phase::kIdle || !live_ || resetting_) return;
        registers = registers_;
    }
    if (auto activated = try_activate(registers); !activated) {
        signal_needs_reset(activated.error().message.c_str());
        return;
    }
    for (unsigned i = 0; i < queue_count(); ++i) on_kick(i);
}

Result<void> MmioTransport::try_activate(const State& registers) {
    std::vector<Queue> queues(registers.queues.size());
    for (size_t i = 0; i < queues.size(); ++i) {
        if (!registers.queues[i].ready) continue;
        queues[i] = TRY_CONTEXT(format("queue %zu", i),
                                Queue::create(memory_, registers.queues[i].layout, registers.driver_features,
                                              device_->queue_max_sizes()[i]));
    }
    queues_ = std::move(queues);
    phase_ = Phase::kActive;  // before the device can find the ring broken
    return device_->activate({memory_, registers.driver_features, queues_, *this});
}

void MmioTransport::drain() {
    phase_ = Phase::kDraining;
    device_->reset([this] { on_drained(); });
}

void MmioTransport::on_drained() {
    CHECK(phase_ == Phase::kDraining);
    phase_ = Phase::kIdle;
    queues_.clear();
    const std::lock_guard lock(mutex_);
    clear_registers();
    live_ = false;
    resetting_ = false;
    drained_.notify_all();
}

void MmioTransport::raise(uint32_t interrupt_bit) {
    interrupt_status_.fetch_or(interrupt_bit);
    signal_eventfd(irq_.get());
}

void MmioTransport::signal_used() {
    if (phase_ == Phase::kActive) raise(VIRTIO_MMIO_INT_VRING);
}

void MmioTransport::change_config(const std::function<void()>& change) {
    {
        const std::lock_guard lock(mutex_);
        change();
        config_generation_.fetch_add(1);
    }
    if (phase_ == Phase::kActive) raise(VIRTIO_MMIO_INT_CONFIG);
}

void MmioTransport::signal_needs_reset(const char* reason) {
    if (phase_ == Phase::kBroken || phase_ == Phase::kDraining) return;
    phase_ = Phase::kBroken;
    LOG_LIMITED("%s needs a reset: %s", device_->name(), reason);
    {
        const std::lock_guard lock(mutex_);
        registers_.status |= kNeedsReset;
    }
    raise(VIRTIO_MMIO_INT_CONFIG);  // section 2.1.2: after DRIVER_OK a device notifies the driver
}

}  // namespace wisp::virtio
