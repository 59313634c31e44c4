// SPDX-License-Identifier: Apache-2.0
//
// What a virtio device is to its transport, and a transport to its device. Neither knows which one the other is.
//
// Threads: a device belongs to its loop. Only what is marked "any thread" may be called from a vCPU thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/guest_memory.h"
#include "base/record.h"
#include "base/result.h"
#include "virtio/queue.h"

namespace wisp::virtio {

/// Device IDs (virtio 1.2, section 5).
enum class DeviceId : uint32_t { kNet = 1, kBlock = 2, kVsock = 19 };

/// Feature bits that belong to no device in particular (virtio 1.2, section 6).
inline constexpr uint64_t kFeatureIndirectDesc = 1ull << 28;
inline constexpr uint64_t kFeatureEventIdx = 1ull << 29;
inline constexpr uint64_t kFeatureVersion1 = 1ull << 32;

/// How a device reaches its driver. The transport implements it. Loop thread.
class Interrupt {
public:
    /// Used buffers were published, and the queue says that the driver wants to hear of it.
    virtual void signal_used() = 0;
    /// Runs `change`, which changes what read_config() gives, and tells the driver: generation and config interrupt. No
    /// read of the configuration falls between the change and the new generation, so a driver never keeps half of each
    /// (section 2.5.1).
    virtual void change_config(const std::function<void()>& change) = 0;
    /// The driver broke the protocol beyond one request: sets DEVICE_NEEDS_RESET (section 2.1.1). The device must not
    /// touch its queues again until it is reset. `reason` goes to the log, rate-limited.
    virtual void signal_needs_reset(const char* reason) = 0;

protected:
    ~Interrupt() = default;
};

/// What a driver has set up when it sets DRIVER_OK. All of it stays until reset() has drained.
struct Activation {
    const GuestMemory& memory;
    uint64_t features;  ///< negotiated
    std::span<Queue>
        queues;  ///< by index; one the driver did not enable has size 0. The transport owns (and saves) them.
    Interrupt& interrupt;
};

class Device {
public:
    virtual ~Device() = default;

    // Fixed when the VM starts; any thread.
    virtual DeviceId id() const = 0;
    virtual const char* name() const = 0;                           ///< for messages, e.g. "drive rootfs"
    virtual uint64_t features() const = 0;                          ///< offered; the transport adds those of section 6
    virtual std::span<const uint16_t> queue_max_sizes() const = 0;  ///< one for each queue

    /// Any thread: copies `data.size()` bytes of configuration space from `offset`; what lies beyond it reads as zero.
    virtual void read_config(uint32_t offset, std::span<std::byte> data) = 0;
    /// Any thread. No device of ours has a writable field, so the default ignores it.
    virtual void write_config(uint32_t, std::span<const std::byte>) {}

    /// The driver is ready. An error makes the transport ask the driver for a reset; the reason is logged. The
    /// transport kicks each queue once afterwards.
    virtual Result<void> activate(Activation activation) = 0;
    /// The driver has put something into a queue. Never called before activate() or after reset().
    virtual void on_kick(unsigned queue) = 0;
    /// Back to the state before activate(), from any state. Calls `drained` once nothing is in flight any more: from
    /// then on the device does not touch guest memory or its queues. May call it at once.
    virtual void reset(std::move_only_function<void()> drained) = 0;

    /// Takes nothing more from its queues or from the host, until resume(). Calls `paused` once nothing is in flight
    /// any more: then the queues are as a snapshot needs them. May call it at once. An inactive device can be paused
    /// too; it is then activated, or reset, without doing any work.
    virtual void pause(std::move_only_function<void()> paused) = 0;
    /// Goes on where pause() stopped; looks at its queues by itself.
    virtual void resume() = 0;

    /// The records of the device's own state, in the group that is being written: what neither its configuration nor
    /// its transport holds. While paused.
    virtual void save(RecordWriter&) const {}
    /// Into a fresh device that is paused, before activate(). The caller finishes the group.
    virtual Result<void> restore(RecordReader&) { return {}; }
};

}  // namespace wisp::virtio
