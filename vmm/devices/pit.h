// SPDX-License-Identifier: Apache-2.0
//
// LazyPit: the i8254 timer, created when a guest first accesses it. KVM's timer costs a kernel thread for each VM, and
// a guest with kvmclock and a TSC deadline timer (Linux since 5.x) never uses it. The first access exits to this
// process, because no device in the kernel has the port. It creates KVM's timer, and is applied to it. From then on KVM
// answers.
//
// It has no state to save: VmState (vmm/kvm/vm_state.h) has KVM's timer, and creates it again in a VM that had one. Its
// accesses do not exit then.
//
// Threads: handle_*() on vCPU threads, several at once. Trust: the guest's accesses may be anything.
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

    /// Creates the timer if it does not exist, and applies `change` to its state. If the host refuses, the guest has
    /// no timer from then on.
    template <class Change>
    void with_state(Change change);

    const Vm& vm_;
    std::mutex mutex_;  // two vCPUs may be the first at the same time
    bool created_ = false;
    bool refused_ = false;  // by the host
    Counters counters_{*this};
    Speaker speaker_{*this};
};

}  // namespace wisp
