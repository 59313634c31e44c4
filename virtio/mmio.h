// SPDX-License-Identifier: Apache-2.0
//
// MmioTransport: the register window of one virtio device (virtio 1.2, section 4.2, version 2), the state machine
// behind it, and the device itself.
//
// Threads: the registers are reached from vCPU threads, under a mutex that guards them and nothing else. The device and
// its queues belong to the loop. DRIVER_OK and a reset ring a doorbell of the loop. The vCPU that wrote a reset waits
// until the device has drained, because its driver frees the memory next. So a loop that waits for vCPUs to stop must
// keep turning.
//
// Trusts nothing that is written: a register written at the wrong time, with the wrong width or out of range is ignored
// and logged, rate-limited.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "base/bus.h"
#include "base/fd.h"
#include "base/guest_memory.h"
#include "base/limits.h"
#include "base/loop.h"
#include "base/record.h"
#include "virtio/device.h"

namespace wisp::virtio {

class MmioTransport final : public BusDevice, private Interrupt {
public:
    /// Bytes of address space, and where in it a queue's index is written to kick it: the address (4 bytes, data match
    /// on the index) to bind kick_fd() to.
    static constexpr uint64_t kWindowSize = 0x1000;
    static constexpr uint64_t kQueueNotify = 0x50;

    /// Loop thread. `loop` and `memory` must outlive the transport.
    static Result<std::unique_ptr<MmioTransport>> create(Loop& loop, const GuestMemory& memory,
                                                         std::unique_ptr<Device> device);
    ~MmioTransport();

    Device& device() { return *device_; }
    unsigned queue_count() const { return static_cast<unsigned>(kicks_.size()); }
    /// Eventfd that kicks a queue (for ioeventfd). A QueueNotify that reaches handle_write() signals it as well.
    int kick_fd(unsigned queue) const { return kicks_[queue]->event.get(); }
    /// Eventfd that raises the device's interrupt line (for irqfd, edge).
    int irq_fd() const { return irq_.get(); }

    void handle_read(uint64_t offset, std::span<std::byte> data) override;
    void handle_write(uint64_t offset, std::span<const std::byte> data) override;

    /// The registers, as a snapshot needs them. Loop thread, device paused and vCPUs stopped.
    struct State {
        uint32_t status = 0;
        uint32_t device_features_select = 0;
        uint32_t driver_features_select = 0;
        uint64_t driver_features = 0;
        uint32_t queue_select = 0;
        uint32_t interrupt_status = 0;
        uint32_t config_generation = 0;
        struct QueueRegisters {
            QueueState layout;
            uint32_t ready = 0;
        };
        std::vector<QueueRegisters> queues;
    };
    State capture() const;
    /// Into a fresh transport, before the VM runs. Pauses the device, and activates it if its driver had: it works from
    /// device().resume() on. An error: the state is not one that this device can have.
    Result<void> apply(const State& state);

    static constexpr RecordType kRecord{"mmio", "transport", 1, Need::kRequired};
    /// The content of a group of type kRecord: registers, queues, and the device's own state. As capture().
    void save(RecordWriter& writer) const;
    static constexpr RecordType kDeviceRecord{"devi", "device", 1, Need::kRequired};
    static void save_state(const State& state, RecordWriter& writer);  ///< without the device's own
    /// As apply(). Errors name the record and the field.
    Result<void> restore(RecordReader& reader);

private:
    struct Kick final : Watcher {
        Kick(MmioTransport& transport, unsigned queue) : owner(transport), index(queue) {}
        void on_ready(uint32_t) override { owner.on_kick(index); }
        MmioTransport& owner;
        unsigned index;
        OwnedFd event;
        Watch watch;
    };
    // How far the device is; changes on the loop only.
    enum class Phase : uint8_t { kIdle, kActive, kBroken, kDraining };

    MmioTransport(Loop& loop, const GuestMemory& memory, std::unique_ptr<Device> device);

    // vCPU threads, mutex_ held
    uint32_t read_register(uint32_t offset) const;
    void write_register(uint32_t offset, uint32_t value, std::unique_lock<std::mutex>& lock);
    void write_driver_features(uint32_t value);
    void write_queue_register(uint32_t offset, uint32_t value);
    void write_status(uint32_t value, std::unique_lock<std::mutex>& lock);
    bool accept_features() const;
    void request_reset(std::unique_lock<std::mutex>& lock);
    void clear_registers();
    bool has_status(uint32_t all_of, uint32_t none_of) const;
    void refuse(const char* what, uint32_t offset, uint32_t value) const;

    // Loop thread
    void on_kick(unsigned queue);
    void activate();
    Result<void> try_activate(const State& registers);
    void drain();
    void on_drained();
    void signal_used() override;
    void change_config(const std::function<void()>& change) override;
    void signal_needs_reset(const char* reason) override;
    void raise(uint32_t interrupt_bit);

    const GuestMemory& memory_;
    std::unique_ptr<Device> device_;
    std::vector<std::unique_ptr<Kick>> kicks_;
    OwnedFd irq_;
    const uint64_t offered_;  // features

    Doorbell activate_bell_, drain_bell_;

    mutable std::mutex mutex_;  // guards registers_, live_, resetting_
    std::condition_variable drained_;
    State registers_;    // interrupt_status and config_generation live in the atomics below
    bool live_ = false;  // the loop was asked to activate, and no reset has drained since
    bool resetting_ = false;
    std::atomic<uint32_t> interrupt_status_ = 0;
    std::atomic<uint32_t> config_generation_ = 0;

    Phase phase_ = Phase::kIdle;  // loop thread
    std::vector<Queue> queues_;   // loop thread
};

}  // namespace wisp::virtio
