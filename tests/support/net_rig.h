// SPDX-License-Identifier: Apache-2.0
//
// A network interface between a fake tap and a driver of both its queues.
#pragma once

#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <optional>

#include "tests/support/fake_driver.h"
#include "tests/support/fake_tap.h"
#include "virtio/net/device.h"

namespace wisp::test {

/// A virtio header and a frame behind it of `size` bytes, whose content follows from `seed`.
inline std::string make_frame(size_t size, int seed, const virtio::NetHeader& header = {}) {
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    for (size_t i = 0; i < size; ++i) bytes.push_back(static_cast<char>(seed * 31 + static_cast<int>(i * 7)));
    return bytes;
}

struct NetRig final : virtio::Interrupt {
    static constexpr uint64_t kRing =
        virtio::kFeatureVersion1 | virtio::kFeatureEventIdx | virtio::kFeatureIndirectDesc;

    explicit NetRig(virtio::NetConfig config = {}, std::optional<uint64_t> wanted = std::nullopt) {
        config.id = "test";
        config.tap = "faketap";
        auto io = std::make_unique<FakeTap>();
        tap = io.get();
        auto created = virtio::Net::create(*loop, std::move(config), std::move(io));
        REQUIRE(created.has_value());
        net = *std::move(created);
        features = kRing | wanted.value_or(net->features());
        activate();
    }
    ~NetRig() {
        if (active) reset();
    }

    void activate() {
        rx.restart();
        tx.restart();
        queues[0] = *virtio::Queue::create(memory, rx.layout(), features, 256);
        queues[1] = *virtio::Queue::create(memory, tx.layout(), features, 256);
        needs_reset = nullptr;
        REQUIRE(net->activate({memory, features, queues, *this}).has_value());
        active = true;
        for (unsigned queue : {0u, 1u}) net->on_kick(queue);
    }
    void reset() {
        bool drained = false;
        net->reset([&] { drained = true; });
        REQUIRE(drained);
        active = false;
    }
    void pause() {
        bool paused = false;
        net->pause([&] { paused = true; });
        REQUIRE(paused);
    }
    void turn() { REQUIRE(loop->turn(0).has_value()); }
    /// Turns the loop until `done`; fails the test if that takes too long.
    void until(const std::function<bool()>& done) {
        const uint64_t give_up_ns = monotonic_ns() + 20'000'000'000;
        while (!done()) {
            if (monotonic_ns() > give_up_ns) FAIL("waited in vain");
            REQUIRE(loop->turn(1'000'000).has_value());
        }
    }

    struct Buffer {
        uint64_t address;
        uint32_t size;
    };
    /// A receive buffer of one segment. No kick.
    void post(uint32_t size) {
        auto chain = rx.chain().writable(size);
        const uint64_t address = chain.address(0);
        buffers[chain.submit()] = {address, size};
    }
    void kick_rx() { net->on_kick(0); }
    void kick_tx() { net->on_kick(1); }
    void send(const std::string& frame) {
        tx.chain().readable(frame).submit();
        kick_tx();
    }
    size_t returned() {
        size_t count = 0;
        while (const auto used = tx.used()) {
            REQUIRE(used->written == 0);
            ++count;
        }
        return count;
    }
    /// The next received frame, header in front, put together as a driver does. Buffers that came back empty are
    /// counted.
    std::optional<std::string> received() {
        for (;;) {
            const auto first = rx.used();
            if (!first) return std::nullopt;
            std::string bytes = take(*first);
            if (bytes.empty()) {
                ++empty_buffers;
                continue;
            }
            uint16_t count;
            memcpy(&count, &bytes[offsetof(virtio::NetHeader, num_buffers)], sizeof count);
            REQUIRE(count >= 1);
            for (uint16_t i = 1; i < count; ++i) {
                const auto next = rx.used();
                REQUIRE(next.has_value());
                bytes += take(*next);
            }
            last_count = count;
            bytes.replace(offsetof(virtio::NetHeader, num_buffers), sizeof count, sizeof count, '\0');
            return bytes;
        }
    }
    std::string take(const FakeDriver::Used& used) {
        REQUIRE(buffers[used.head].has_value());
        const Buffer buffer = *buffers[used.head];
        buffers[used.head].reset();
        REQUIRE(used.written <= buffer.size);
        return rx.bytes(buffer.address, used.written);
    }

    void signal_used() override { ++interrupts; }
    void change_config(const std::function<void()>& change) override { change(); }
    void signal_needs_reset(const char* reason) override { needs_reset = reason; }

    std::unique_ptr<Loop> loop = *Loop::create();
    GuestMemory memory = make_memory();
    FakeDriver rx{memory, 64, 0x10000};
    FakeDriver tx{memory, 64, 0x800000};
    std::array<virtio::Queue, 2> queues;
    FakeTap* tap = nullptr;
    std::unique_ptr<virtio::Net> net;
    uint64_t features = 0;
    bool active = false;
    std::array<std::optional<Buffer>, 64> buffers;
    unsigned interrupts = 0, empty_buffers = 0, last_count = 0;
    const char* needs_reset = nullptr;
};

}  // namespace wisp::test
