// SPDX-License-Identifier: Apache-2.0
//
// Racer: a second thread that stands for a vCPU and changes rings and descriptors while the device reads them. It does
// so between start() and stop(); what it writes follows from the seed, when it writes is up to chance.
#pragma once

#include <atomic>
#include <random>
#include <thread>

#include "base/guest_memory.h"
#include "tests/fuzz/driver.h"

namespace wisp::fuzz {

class Racer {
public:
    static Racer& instance() {
        static Racer* const racer = new Racer;  // its thread never ends
        return *racer;
    }

    /// Rings of `queues` drivers, `distance` bytes apart from `host` on.
    void start(std::byte* host, unsigned queues, uint64_t distance, uint64_t memory_size, uint32_t seed) {
        host_ = host;
        queues_ = queues;
        distance_ = distance;
        memory_size_ = memory_size;
        random_.seed(seed);
        wanted_.store(true, std::memory_order_release);
        wanted_.notify_one();
    }
    /// Nothing is written any more when this returns.
    void stop() {
        wanted_.store(false, std::memory_order_release);
        while (running_.load(std::memory_order_acquire)) __builtin_ia32_pause();
    }

private:
    Racer() {
        std::thread([this] {
            for (;;) {
                wanted_.wait(false, std::memory_order_acquire);
                running_.store(true);
                while (wanted_.load()) step();
                running_.store(false, std::memory_order_release);
            }
        }).detach();
    }

    template <class T>
    void put(uint64_t address, T value) {
        copy_to_shared(host_ + address, &value, sizeof value);
    }

    void step() {
        const uint64_t ring = random_() % queues_ * distance_;
        const uint64_t descriptor = ring + random_() % Driver::kSize * sizeof(Driver::Descriptor);
        switch (random_() % 8) {
            case 0:
            case 1:
                put(ring + Driver::kAvailable + 2, static_cast<uint16_t>(index_ += random_() % 4));
                break;
            case 2:
                put(ring + Driver::kAvailable + 4 + random_() % Driver::kSize * 2,
                    static_cast<uint16_t>(random_() % (Driver::kSize + random_() % 2)));
                break;
            case 3:
                put(descriptor, static_cast<uint64_t>(random_() % memory_size_));
                break;
            case 4:
                put(descriptor + 8, static_cast<uint32_t>(random_() % 0x2000));
                break;
            case 5:
                put(descriptor + 12, static_cast<uint16_t>(random_() % 8));
                break;
            case 6:
                put(descriptor + 14, static_cast<uint16_t>(random_() % Driver::kSize));
                break;
            default:
                put(descriptor + 8, static_cast<uint32_t>(random_() % 64));
                break;
        }
    }

    std::atomic<bool> wanted_ = false, running_ = false;
    std::byte* host_ = nullptr;
    unsigned queues_ = 1;
    uint64_t distance_ = 0, memory_size_ = 0;
    uint16_t index_ = 0;
    std::minstd_rand random_;
};

}  // namespace wisp::fuzz
