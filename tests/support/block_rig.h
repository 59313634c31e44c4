// SPDX-License-Identifier: Apache-2.0
//
// A drive with a driver on the other side, for tests.
#pragma once

#include <linux/virtio_blk.h>

#include <array>
#include <catch2/catch.hpp>
#include <numeric>
#include <string>

#include "tests/support/fake_driver.h"
#include "tests/support/temp_file.h"
#include "virtio/block/device.h"

namespace wisp::test {

inline constexpr uint64_t kBlockRing =
    virtio::kFeatureVersion1 | virtio::kFeatureEventIdx | virtio::kFeatureIndirectDesc;

/// The first bytes of a request.
inline std::string block_header(uint32_t type, uint64_t sector = 0) {
    const virtio_blk_outhdr wire{type, 0, sector};
    return {reinterpret_cast<const char*>(&wire), sizeof wire};
}

inline std::string pattern(size_t size, int seed) {
    std::string text(size, '\0');
    std::iota(text.begin(), text.end(), static_cast<char>(seed));
    return text;
}

/// The engine of hosts without io_uring. Drives of this rig with io_engine Sync get it on any host.
inline Result<std::unique_ptr<virtio::BlockIo>> thread_engine(Loop& loop, virtio::BlockIoListener& listener, unsigned) {
    return virtio::create_thread_block_io(loop, listener, nullptr);
}

struct Drive final : virtio::Interrupt {
    Drive(const std::string& path, virtio::BlockConfig config, uint16_t queue_size = 64,
          const virtio::Block::EngineFactory& engine = nullptr)
        : driver(memory, queue_size) {
        config.id = "test";
        config.path = path;
        const bool threaded = !engine && config.io_engine == virtio::IoEngine::kSync;
        auto created = virtio::Block::create(*loop, config, threaded ? thread_engine : engine);
        REQUIRE(created.has_value());
        block = *std::move(created);
        block->start_writer();
        activate();
    }
    Drive(const TempFile& file, const virtio::BlockConfig& config, uint16_t queue_size = 64)
        : Drive(file.path(), config, queue_size) {}
    ~Drive() {
        if (block && activated) reset();
    }

    void activate() {
        queues[0] = *virtio::Queue::create(memory, driver.layout(), kBlockRing, 256);
        activated = true;
        REQUIRE(block->activate({memory, kBlockRing | block->features(), queues, *this}).has_value());
    }
    void reset() {
        bool drained = false;
        activated = false;
        block->reset([&] { drained = true; });
        turn_until(drained);
    }
    // Not for ever at a time: what is waited for may happen while the loop spins, after which nothing wakes it.
    void turn_until(const bool& done) {
        const uint64_t give_up_ns = monotonic_ns() + 20'000'000'000;
        while (!done) {
            REQUIRE(monotonic_ns() < give_up_ns);
            REQUIRE(loop->turn(1'000'000).has_value());
        }
    }

    struct Answer {
        int status = -1;  // -1: no status byte was written
        uint32_t written = 0;
        std::string data;
    };
    // Sends one request and waits for its answer. `in` bytes are asked for.
    Answer ask(std::string_view head, std::string_view out = {}, uint32_t in = 0) {
        driver.recycle();
        auto chain = driver.chain().readable(head);
        if (!out.empty()) chain.readable(out);
        if (in) chain.writable(in);
        chain.writable(1);
        const size_t parts = 1 + (out.empty() ? 0 : 1);
        const uint64_t data = in ? chain.address(parts) : 0;
        const uint64_t status = chain.address(parts + (in ? 1 : 0));
        chain.submit();
        const FakeDriver::Used used = wait();
        const uint8_t byte = static_cast<uint8_t>(driver.bytes(status, 1)[0]);
        return {byte == 0xee ? -1 : byte, used.written, in ? driver.bytes(data, in) : ""};
    }
    FakeDriver::Used wait() {
        block->on_kick(0);
        return next();
    }
    FakeDriver::Used next() {
        const uint64_t give_up_ns = monotonic_ns() + 5'000'000'000;
        std::optional<FakeDriver::Used> used;
        while (!(used = driver.used())) {
            REQUIRE(monotonic_ns() < give_up_ns);
            REQUIRE(loop->turn(100'000'000).has_value());
        }
        return *used;
    }

    void signal_used() override { ++interrupts; }
    void change_config(const std::function<void()>& change) override {
        change();
        ++config_changes;
    }
    void signal_needs_reset(const char* reason) override { needs_reset = reason; }

    std::unique_ptr<Loop> loop = *Loop::create();
    GuestMemory memory = test::make_memory();
    FakeDriver driver;
    std::array<virtio::Queue, 1> queues;
    std::unique_ptr<virtio::Block> block;
    bool activated = false;
    int interrupts = 0;
    int config_changes = 0;
    std::string needs_reset;
};

}  // namespace wisp::test
