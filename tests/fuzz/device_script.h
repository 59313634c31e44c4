// SPDX-License-Identifier: Apache-2.0
//
// What scripts of a guest have in common that drive a whole device, with one driver for each of its queues.
#pragma once

#include <memory>
#include <vector>

#include "base/loop.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/racer.h"

namespace wisp::fuzz {

class DeviceScript {
protected:
    static constexpr uint64_t kMemory = 1 << 20;
    static constexpr uint64_t kTransport =
        virtio::kFeatureVersion1 | virtio::kFeatureEventIdx | virtio::kFeatureIndirectDesc;

    /// Rings from 0 on, 16 KiB apart.
    DeviceScript(const GuestMemory& memory, Input input, unsigned queues)
        : memory_(memory), host_(host_bytes(memory)), input_(input), queues_(queues) {
        for (unsigned i = 0; i < queues; ++i) drivers_.emplace_back(host_, kMemory, ring(i));
    }

    ~DeviceScript() { stop_race(); }

    static constexpr uint64_t kRingDistance = 0x4000;
    static constexpr uint64_t ring(unsigned queue) { return queue * kRingDistance; }

    static constexpr unsigned kRaceTurns = 50;
    /// From now on a second thread changes the rings.
    void start_race() {
        racing_ = true;
        Racer::instance().start(host_, static_cast<unsigned>(queues_.size()), kRingDistance, kMemory,
                                input_.take<uint32_t>());
    }
    void stop_race() {
        if (std::exchange(racing_, false)) Racer::instance().stop();
    }
    bool racing() const { return racing_; }
    bool broken() const { return transport_.broken; }
    /// Some turns, with a new start wherever a ring is found broken: so that the race has time.
    void race_on(virtio::Device& device, uint64_t features) {
        if (paused_) pause_or_resume(device);
        for (unsigned i = 0; i < kRaceTurns; ++i) {
            if (transport_.broken) {
                reset(device);
                activate(device, features);
            }
            for (unsigned queue = 0; queue < queues_.size(); ++queue) kick(device, queue);
            turn();
        }
    }
    static Loop& loop() {
        static const std::unique_ptr<Loop> loop = *Loop::create(Loop::Backend::kEpoll);
        return *loop;
    }
    static void turn() { CHECK(loop().turn(0)); }

    void activate(virtio::Device& device, uint64_t features) {
        for (size_t i = 0; i < queues_.size(); ++i) {
            drivers_[i].restart();
            queues_[i] = *virtio::Queue::create(memory_, drivers_[i].layout(), features, limits::kMaxQueueSize);
        }
        transport_.broken = false;
        CHECK(device.activate({memory_, features, queues_, transport_}));
    }

    static void reset(virtio::Device& device) {
        bool drained = false;
        device.reset([&] { drained = true; });
        CHECK(drained);
    }

    void kick(virtio::Device& device, unsigned queue) const {
        if (!transport_.broken) device.on_kick(queue);
    }

    void pause_or_resume(virtio::Device& device) {
        bool done = false;
        if (!paused_)
            device.pause([&] { done = true; });
        else
            device.resume();
        CHECK(done != paused_);
        paused_ = !paused_;
    }

    /// Bytes anywhere in the first 64 KiB, where the rings are.
    void poke() {
        const auto at = input_.take<uint16_t>();
        const auto bytes = input_.bytes(input_.take<uint8_t>() % 32);
        if (!bytes.empty()) memcpy(host_ + at, bytes.data(), bytes.size());
    }

    const GuestMemory& memory_;
    std::byte* const host_;
    Input input_;
    std::vector<Driver> drivers_;

public:
    /// One input, in memory that is zero.
    template <class Script>
    static int run(const uint8_t* data, size_t size) {
        static const GuestMemory memory = [] {
            be_quiet();
            return guest_memory(kMemory);
        }();
        memset(host_bytes(memory), 0, kMemory);
        Script(memory, Input(data, size)).run();
        return 0;
    }

private:
    std::vector<virtio::Queue> queues_;
    Transport transport_;
    bool paused_ = false, racing_ = false;
};

}  // namespace wisp::fuzz
