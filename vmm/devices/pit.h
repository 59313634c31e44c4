// SPDX-License-Identifier: Apache-2.0
//
// The i8254 timer, made when a guest first touches it. KVM's costs a kernel thread for each VM, and a guest with
// kvmclock and a TSC deadline timer (Linux since 5.x) never looks at it. The first access comes to us because nobody in
// the kernel claims the port; it makes the timer there and is applied to it. From then on KVM answers.
//
// Threads: vCPU threads, several at once.
#pragma once

#include <mutex>

#include "base/bus.h"
#include "vmm/kvm/kvm.h"

namespace wisp {

class LazyPit {
public:
    explicit LazyPit(const Vm& vm) : vm_(vm) {}

    static constexpr uint64_t kCounterPorts = 0x40;  // 0x40 to 0x42: counters, 0x43: control word
    static constexpr uint64_t kSpeakerPort = 0x61;   // gate of channel 2, and its output
    BusDevice& counters() { return counters_; }
    BusDevice& speaker() { return speaker_; }

private:
    class Counters final : public BusDevice {
    public:
        explicit Counters(LazyPit& owner) : owner_(owner) {}
        void handle_read(uint64_t offset, std::span<std::byte> data) override;
        void handle_write(uint64_t offset, std::span<const std::byte> data) override;

    private:
        LazyPit& owner_;
    };
    class Speaker final : public BusDevice {
    public:
        explicit Speaker(LazyPit& owner) : owner_(owner) {}
        void handle_read(uint64_t offset, std::span<std::byte> data) override;
        void handle_write(uint64_t offset, std::span<const std::byte> data) override;

    private:
        LazyPit& owner_;
    };

    /// Makes the timer if it is not there, and lets `change` alter its state. A host that refuses leaves the guest
    /// without.
    template <class Change>
    void with_state(Change change);

    const Vm& vm_;
    std::mutex mutex_;  // two vCPUs may touch it first
    bool created_ = false;
    Counters counters_{*this};
    Speaker speaker_{*this};
};

}  // namespace wisp
