// SPDX-License-Identifier: Apache-2.0
//
// A queue and a model of it under thousands of random steps: chains right and wrong, served in any order, published in
// any batches. What the model says must come back does, once, in the order it was pushed; an interrupt or a kick is
// never missing where the other side sleeps.
#define VIRTIO_RING_NO_LEGACY
#include <linux/virtio_ring.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <deque>
#include <random>

#include "tests/support/fake_driver.h"
#include "virtio/device.h"

using namespace wisp;
using namespace wisp::virtio;
using wisp::test::FakeDriver;

namespace {

constexpr uint16_t kSize = 16;

struct Held {
    Chain chain;
    std::array<GuestSlice, kSize> storage;
};

class Model {
public:
    Model(uint32_t seed, uint64_t features)
        : random_(seed),
          event_idx_(features & kFeatureEventIdx),
          queue_(*Queue::create(memory_, driver_.layout(), features, 256)) {}

    void run(int steps) {
        for (int i = 0; i < steps; ++i) {
            switch (pick(6)) {
                case 0:
                case 1:
                    driver_submits();
                    break;
                case 2:
                    device_pops();
                    break;
                case 3:
                    device_pushes();
                    break;
                case 4:
                    device_publishes();
                    break;
                case 5:
                    driver_reaps();
                    break;
            }
        }
        finish();
    }

private:
    uint32_t pick(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }

    void driver_submits() {
        if (outstanding_ == kSize) return;
        const uint16_t head = static_cast<uint16_t>(next_head_++ % kSize);
        const uint32_t length = pick(4) ? 1 + pick(5000) : 0;
        const bool good = pick(5) != 0;
        const uint64_t address = good ? 0x800000 + pick(4096) : (16 << 20) - length / 2;
        driver_.write_descriptor(head, address, length, pick(2) ? VRING_DESC_F_WRITE : 0, 0);
        driver_.make_available(head);
        available_.push_back({head, good || length == 0 ? length : UINT32_MAX});
        ++outstanding_;
    }

    void device_pops() {
        if (held_.size() == kSize) return;
        auto held = std::make_unique<Held>();
        const Queue::Pop popped = queue_.pop(held->chain, held->storage);
        if (available_.empty()) {
            REQUIRE(popped == Queue::Pop::kEmpty);
            // Before it sleeps a device asks for kicks and looks again.
            REQUIRE_FALSE(queue_.enable_notifications());
            if (event_idx_) REQUIRE(driver_.available_event() == driver_.available_index());
            return;
        }
        REQUIRE(popped == Queue::Pop::kChain);
        const Expected expected = available_.front();
        available_.pop_front();
        REQUIRE(held->chain.head() == expected.head);
        REQUIRE((held->chain.fault() != nullptr) == (expected.length == UINT32_MAX));
        if (!held->chain.fault()) {
            const auto side =
                held->chain.readable().empty() ? as_slices(held->chain.writable()) : held->chain.readable();
            REQUIRE((side.empty() ? 0 : side[0].size()) == expected.length);
        }
        if (pick(8) == 0) {
            available_.push_front(expected);
            queue_.unpop(std::move(held->chain));
            return;
        }
        held_.push_back(std::move(held));
    }

    void device_pushes() {
        if (held_.empty()) return;
        const auto at = held_.begin() + pick(static_cast<uint32_t>(held_.size()));
        const uint32_t written = pick(1000);
        pushed_.push_back({(*at)->chain.head(), written});
        queue_.push(std::move((*at)->chain), written);
        held_.erase(at);
    }

    void device_publishes() {
        const auto before = driver_.used_index();
        const bool wanted = queue_.publish();
        const auto count = static_cast<uint16_t>(driver_.used_index() - before);
        REQUIRE(count == pushed_.size() - published_);
        published_ = pushed_.size();
        // The driver sleeps if it has asked for an interrupt at exactly what it has seen: the first new one must wake
        // it.
        if (driver_sleeps_ && count > 0) REQUIRE(wanted);
        if (wanted) driver_sleeps_ = false;
    }

    void driver_reaps() {
        while (const auto used = driver_.used()) {
            REQUIRE(published_ > 0);
            REQUIRE(used->head == pushed_.front().head);
            REQUIRE(used->written == pushed_.front().length);
            pushed_.pop_front();
            --published_;
            --outstanding_;
        }
        REQUIRE(published_ == 0);
        driver_.set_used_event(driver_.used_index());
        driver_.set_available_flags(0);
        driver_sleeps_ = true;
    }

    void finish() {
        while (!available_.empty()) device_pops();
        while (!held_.empty()) device_pushes();
        device_publishes();
        driver_reaps();
        REQUIRE(outstanding_ == 0);
    }

    struct Expected {
        uint16_t head;
        uint32_t length;
    };
    std::mt19937 random_;
    bool event_idx_;
    GuestMemory memory_ = test::make_memory();
    FakeDriver driver_{memory_, kSize};
    Queue queue_;
    unsigned next_head_ = 0;
    unsigned outstanding_ = 0;
    bool driver_sleeps_ = false;
    std::deque<Expected> available_;
    std::deque<std::unique_ptr<Held>> held_;
    std::deque<Expected> pushed_;  // and not reaped
    size_t published_ = 0;         // of these
};

}  // namespace

TEST_CASE("queue: random steps agree with the model") {
    const char* given = getenv("WISP_TEST_SEED");
    const uint32_t seed = given ? static_cast<uint32_t>(strtoul(given, nullptr, 0)) : std::random_device{}();
    std::printf("queue model: WISP_TEST_SEED=%u\n", seed);
    for (uint32_t i = 0; i < 50; ++i) {
        INFO("seed " << seed << " + " << i);
        // Long enough for the 16-bit indices to wrap in one of them.
        Model(seed + i, kFeatureVersion1 | (i % 2 ? kFeatureEventIdx : 0)).run(i == 1 ? 500'000 : 2'000);
    }
}
