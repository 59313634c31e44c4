// SPDX-License-Identifier: Apache-2.0
#include "virtio/mmio.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <poll.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <thread>

#include "tests/support/fake_driver.h"

using namespace wisp;
using namespace wisp::virtio;
using wisp::test::FakeDriver;

namespace {

constexpr uint16_t kSizes[] = {8, 16};
constexpr uint32_t kAck = VIRTIO_CONFIG_S_ACKNOWLEDGE;
constexpr uint32_t kDriver = kAck | VIRTIO_CONFIG_S_DRIVER;
constexpr uint32_t kFeaturesOk = kDriver | VIRTIO_CONFIG_S_FEATURES_OK;
constexpr uint32_t kDriverOk = kFeaturesOk | VIRTIO_CONFIG_S_DRIVER_OK;

// Counts what the transport asks of it.
struct FakeDevice final : Device {
    DeviceId id() const override { return DeviceId::kBlock; }
    const char* name() const override { return "fake"; }
    uint64_t features() const override { return 0x21; }
    std::span<const uint16_t> queue_max_sizes() const override { return kSizes; }
    void read_config(uint32_t offset, std::span<std::byte> data) override {
        for (size_t i = 0; i < data.size(); ++i)
            data[i] = offset + i < 8 ? std::byte(offset + i + config_base) : std::byte{0};
    }
    Result<void> activate(Activation given) override {
        activation.emplace(given);
        if (refuse_activation) return fail("not today");
        return {};
    }
    void on_kick(unsigned queue) override { ++kicks[queue]; }
    void reset(std::move_only_function<void()> done) override {
        ++resets;
        activation.reset();
        if (hold_drain)
            drained = std::move(done);
        else
            done();
    }
    void pause(std::move_only_function<void()> paused) override { paused(); }
    void resume() override {}

    std::optional<Activation> activation;
    std::array<int, 2> kicks{};
    int resets = 0;
    int config_base = 0x10;
    bool refuse_activation = false;
    bool hold_drain = false;
    std::move_only_function<void()> drained;
};

struct Fixture {
    Fixture() {
        auto owned = std::make_unique<FakeDevice>();
        device = owned.get();
        transport = *MmioTransport::create(*loop, memory, std::move(owned));
    }

    uint32_t read(uint64_t offset) {
        uint32_t value = UINT32_MAX;
        transport->handle_read(offset, std::as_writable_bytes(std::span(&value, 1)));
        return value;
    }
    void write(uint64_t offset, uint32_t value) {
        transport->handle_write(offset, std::as_bytes(std::span(&value, 1)));
    }
    void write_address(uint64_t low, GuestAddress address) {
        write(low, static_cast<uint32_t>(address.value));
        write(low + 4, static_cast<uint32_t>(address.value >> 32));
    }
    void turn() {
        for (int i = 0; i < 3; ++i) REQUIRE(loop->turn(0).has_value());
    }
    bool interrupted() {
        pollfd irq{transport->irq_fd(), POLLIN, 0};
        return ::poll(&irq, 1, 0) == 1 && drain_eventfd(transport->irq_fd());
    }

    void negotiate(uint64_t features = kFeatureVersion1 | 0x20) {
        write(VIRTIO_MMIO_STATUS, kAck);
        write(VIRTIO_MMIO_STATUS, kDriver);
        for (uint32_t i = 0; i < 2; ++i) {
            write(VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
            write(VIRTIO_MMIO_DRIVER_FEATURES, static_cast<uint32_t>(features >> (32 * i)));
        }
        write(VIRTIO_MMIO_STATUS, kFeaturesOk);
    }
    void set_up_queue(uint32_t index, const QueueState& layout) {
        write(VIRTIO_MMIO_QUEUE_SEL, index);
        write(VIRTIO_MMIO_QUEUE_NUM, layout.size);
        write_address(VIRTIO_MMIO_QUEUE_DESC_LOW, layout.descriptors);
        write_address(VIRTIO_MMIO_QUEUE_AVAIL_LOW, layout.available);
        write_address(VIRTIO_MMIO_QUEUE_USED_LOW, layout.used);
        write(VIRTIO_MMIO_QUEUE_READY, 1);
    }
    void drive() {
        negotiate();
        set_up_queue(0, driver.layout());
        write(VIRTIO_MMIO_STATUS, kDriverOk);
        turn();
    }

    std::unique_ptr<Loop> loop = *Loop::create();
    GuestMemory memory = test::make_memory();
    FakeDriver driver{memory, 8};
    FakeDevice* device = nullptr;
    std::unique_ptr<MmioTransport> transport;
};

}  // namespace

TEST_CASE("mmio: the window says what it is") {
    Fixture f;
    CHECK(f.read(VIRTIO_MMIO_MAGIC_VALUE) == 0x74726976);
    CHECK(f.read(VIRTIO_MMIO_VERSION) == 2);
    CHECK(f.read(VIRTIO_MMIO_DEVICE_ID) == 2);
    CHECK(f.read(VIRTIO_MMIO_QUEUE_NUM_MAX) == 8);
    f.write(VIRTIO_MMIO_QUEUE_SEL, 1);
    CHECK(f.read(VIRTIO_MMIO_QUEUE_NUM_MAX) == 16);
    f.write(VIRTIO_MMIO_QUEUE_SEL, 2);
    CHECK(f.read(VIRTIO_MMIO_QUEUE_NUM_MAX) == 0);
    CHECK(f.read(VIRTIO_MMIO_SHM_LEN_LOW) == UINT32_MAX);
    CHECK(f.read(VIRTIO_MMIO_SHM_BASE_HIGH) == UINT32_MAX);
    CHECK(f.transport->queue_count() == 2);
    CHECK(MmioTransport::kQueueNotify == VIRTIO_MMIO_QUEUE_NOTIFY);

    f.write(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    CHECK(f.read(VIRTIO_MMIO_DEVICE_FEATURES) == (0x21u | kFeatureEventIdx | kFeatureIndirectDesc));
    f.write(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    CHECK(f.read(VIRTIO_MMIO_DEVICE_FEATURES) == 1);
    f.write(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    CHECK(f.read(VIRTIO_MMIO_DEVICE_FEATURES) == 0);
}

TEST_CASE("mmio: registers take aligned 32-bit accesses only, the configuration any") {
    Fixture f;
    uint16_t half = 0xffff;
    f.transport->handle_read(VIRTIO_MMIO_MAGIC_VALUE, std::as_writable_bytes(std::span(&half, 1)));
    CHECK(half == 0xffff);
    uint64_t wide = 1;
    f.transport->handle_write(VIRTIO_MMIO_STATUS, std::as_bytes(std::span(&wide, 1)));
    CHECK(f.read(VIRTIO_MMIO_STATUS) == 0);
    CHECK(f.read(VIRTIO_MMIO_MAGIC_VALUE + 2) == UINT32_MAX);

    uint8_t byte;
    f.transport->handle_read(VIRTIO_MMIO_CONFIG + 3, std::as_writable_bytes(std::span(&byte, 1)));
    CHECK(byte == 0x13);
    f.transport->handle_read(VIRTIO_MMIO_CONFIG + 5, std::as_writable_bytes(std::span(&wide, 1)));
    CHECK(wide == 0x171615);
    f.transport->handle_read(MmioTransport::kWindowSize - 8, std::as_writable_bytes(std::span(&wide, 1)));
    CHECK(wide == 0);
}

TEST_CASE("mmio: the status goes its way and no other") {
    Fixture f;
    for (const uint32_t illegal : {kDriver, kFeaturesOk, kDriverOk, 2u, 8u}) {
        f.write(VIRTIO_MMIO_STATUS, illegal);
        CHECK(f.read(VIRTIO_MMIO_STATUS) == 0);
    }
    f.negotiate();
    CHECK(f.read(VIRTIO_MMIO_STATUS) == kFeaturesOk);
    for (const uint32_t back : {kAck, kDriver, 2u}) {
        f.write(VIRTIO_MMIO_STATUS, back);
        CHECK(f.read(VIRTIO_MMIO_STATUS) == kFeaturesOk);
    }
    f.write(VIRTIO_MMIO_STATUS, kFeaturesOk | VIRTIO_CONFIG_S_FAILED);
    CHECK(f.read(VIRTIO_MMIO_STATUS) == (kFeaturesOk | VIRTIO_CONFIG_S_FAILED));
    f.write(VIRTIO_MMIO_STATUS, kDriverOk);
    f.turn();
    CHECK_FALSE(f.device->activation);
    f.write(VIRTIO_MMIO_STATUS, 0);
    CHECK(f.read(VIRTIO_MMIO_STATUS) == 0);
}

TEST_CASE("mmio: FEATURES_OK stays away without VERSION_1 or with a feature that was not offered") {
    for (const uint64_t features :
         {uint64_t{0}, uint64_t{0x20}, kFeatureVersion1 | 2, kFeatureVersion1 | uint64_t{1} << 63}) {
        Fixture f;
        f.negotiate(features);
        CHECK(f.read(VIRTIO_MMIO_STATUS) == kDriver);
    }
}

TEST_CASE("mmio: features do not change after FEATURES_OK") {
    Fixture f;
    f.negotiate();
    f.write(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    f.write(VIRTIO_MMIO_DRIVER_FEATURES, 0x1);
    f.set_up_queue(0, f.driver.layout());
    f.write(VIRTIO_MMIO_STATUS, kDriverOk);
    f.turn();
    REQUIRE(f.device->activation);
    CHECK(f.device->activation->features == (kFeatureVersion1 | 0x20));
}

TEST_CASE("mmio: DRIVER_OK activates the device, and each queue is looked at once") {
    Fixture f;
    f.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);  // a kick too early does no harm
    f.turn();
    f.drive();
    REQUIRE(f.device->activation);
    CHECK(f.device->activation->queues[0].size() == 8);
    CHECK(f.device->activation->queues[1].size() == 0);
    CHECK(f.device->kicks[0] == 1);
    f.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    f.write(VIRTIO_MMIO_QUEUE_NOTIFY, 77);
    f.turn();
    CHECK(f.device->kicks[0] == 2);
    signal_eventfd(f.transport->kick_fd(1));
    f.turn();
    CHECK(f.device->kicks[1] == 2);
}

TEST_CASE("mmio: a queue does not move once it is ready, nor after DRIVER_OK") {
    Fixture f;
    f.write(VIRTIO_MMIO_QUEUE_NUM, 8);
    f.write(VIRTIO_MMIO_QUEUE_READY, 1);
    CHECK(f.read(VIRTIO_MMIO_QUEUE_READY) == 0);  // before FEATURES_OK
    f.negotiate();
    f.set_up_queue(0, f.driver.layout());
    f.write(VIRTIO_MMIO_QUEUE_NUM, 4);
    f.write_address(VIRTIO_MMIO_QUEUE_USED_LOW, {1ull << 40});
    f.write(VIRTIO_MMIO_STATUS, kDriverOk);
    f.write(VIRTIO_MMIO_QUEUE_READY, 0);
    f.write_address(VIRTIO_MMIO_QUEUE_DESC_LOW, {1ull << 40});
    f.turn();
    REQUIRE(f.device->activation);
    CHECK(f.device->activation->queues[0].save().used == f.driver.layout().used);
    CHECK(f.read(VIRTIO_MMIO_QUEUE_READY) == 1);
}

TEST_CASE("mmio: a bad queue, or a device that refuses, asks for a reset, and a reset cures it") {
    for (const bool bad_queue : {true, false}) {
        Fixture f;
        f.device->refuse_activation = !bad_queue;
        f.negotiate();
        QueueState layout = f.driver.layout();
        if (bad_queue) layout.used = layout.available;
        f.set_up_queue(0, layout);
        f.write(VIRTIO_MMIO_STATUS, kDriverOk);
        f.turn();
        CHECK(f.read(VIRTIO_MMIO_STATUS) == (kDriverOk | VIRTIO_CONFIG_S_NEEDS_RESET));
        CHECK(f.interrupted());
        CHECK(f.read(VIRTIO_MMIO_INTERRUPT_STATUS) == VIRTIO_MMIO_INT_CONFIG);
        CHECK(f.device->kicks[0] == 0);
        f.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        f.turn();
        CHECK(f.device->kicks[0] == 0);

        f.device->refuse_activation = false;
        std::thread vcpu([&] { f.write(VIRTIO_MMIO_STATUS, 0); });
        while (f.read(VIRTIO_MMIO_STATUS) != 0) f.turn();
        vcpu.join();
        f.drive();
        CHECK(f.read(VIRTIO_MMIO_STATUS) == kDriverOk);
        CHECK(f.device->kicks[0] > 0);
    }
}

TEST_CASE("mmio: a reset is complete only when the device has drained") {
    Fixture f;
    f.drive();
    f.device->hold_drain = true;
    std::atomic<bool> returned = false;
    std::thread vcpu([&] {
        f.write(VIRTIO_MMIO_STATUS, 0);
        returned = true;
    });
    while (f.device->resets == 0) f.turn();
    f.turn();
    CHECK_FALSE(returned);
    CHECK(f.read(VIRTIO_MMIO_STATUS) == kDriverOk);
    f.write(VIRTIO_MMIO_STATUS, kDriverOk | VIRTIO_CONFIG_S_FAILED);  // nothing moves meanwhile
    const int kicks = f.device->kicks[0];
    f.write(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    f.turn();
    CHECK(f.device->kicks[0] == kicks);
    f.device->drained();
    vcpu.join();
    CHECK(f.read(VIRTIO_MMIO_STATUS) == 0);
    CHECK(f.read(VIRTIO_MMIO_QUEUE_READY) == 0);
}

TEST_CASE("mmio: two vCPUs that reset at once both go on after one drain") {
    Fixture f;
    f.drive();
    f.device->hold_drain = true;
    std::thread one([&] { f.write(VIRTIO_MMIO_STATUS, 0); });
    std::thread two([&] { f.write(VIRTIO_MMIO_STATUS, 0); });
    while (f.device->resets == 0) f.turn();
    f.device->drained();
    one.join();
    two.join();
    CHECK(f.device->resets == 1);
}

TEST_CASE("mmio: interrupts say why, until acknowledged") {
    Fixture f;
    f.drive();
    f.device->activation->interrupt.signal_used();
    CHECK(f.interrupted());
    CHECK(f.read(VIRTIO_MMIO_INTERRUPT_STATUS) == VIRTIO_MMIO_INT_VRING);
    const uint32_t generation = f.read(VIRTIO_MMIO_CONFIG_GENERATION);
    f.device->activation->interrupt.change_config([&] { f.device->config_base = 0x50; });
    CHECK(f.interrupted());
    CHECK(f.read(VIRTIO_MMIO_INTERRUPT_STATUS) == 3);
    CHECK(f.read(VIRTIO_MMIO_CONFIG_GENERATION) != generation);
    CHECK(f.read(VIRTIO_MMIO_CONFIG) == 0x53525150);
    f.write(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
    CHECK(f.read(VIRTIO_MMIO_INTERRUPT_STATUS) == VIRTIO_MMIO_INT_CONFIG);
}

TEST_CASE("mmio: a restored transport goes on where the saved one was") {
    Fixture f;
    f.drive();
    f.device->activation->interrupt.signal_used();
    const MmioTransport::State saved = f.transport->capture();

    Fixture g;
    REQUIRE(g.transport->apply(saved).has_value());
    CHECK(g.read(VIRTIO_MMIO_STATUS) == kDriverOk);
    REQUIRE(g.device->activation);
    CHECK(g.device->activation->features == (kFeatureVersion1 | 0x20));
    CHECK(g.device->activation->queues[0].size() == 8);
    CHECK(g.read(VIRTIO_MMIO_INTERRUPT_STATUS) == VIRTIO_MMIO_INT_VRING);
    CHECK(g.interrupted());

    MmioTransport::State bad = saved;
    bad.queues[0].layout.size = 3;
    CHECK_FALSE(Fixture().transport->apply(bad).has_value());
    bad = saved;
    bad.driver_features |= 1ull << 50;
    CHECK_FALSE(Fixture().transport->apply(bad).has_value());
    bad = saved;
    bad.queues.pop_back();
    CHECK_FALSE(Fixture().transport->apply(bad).has_value());
}

namespace {

std::vector<std::byte> save(const Fixture& f) {
    RecordWriter writer;
    {
        const auto group = writer.group(MmioTransport::kRecord);
        f.transport->save(writer);
    }
    return writer.take();
}

Result<void> restore(Fixture& f, std::span<const std::byte> bytes) {
    RecordReader reader = TRY(RecordReader::open(bytes, MmioTransport::kRecord));
    return f.transport->restore(reader);
}

// Why the state is refused; a state is what the fixture's transport would have written, with a change.
std::string why_refused(MmioTransport::State state, const std::function<void(MmioTransport::State&)>& change) {
    change(state);
    RecordWriter writer;
    {
        const auto group = writer.group(MmioTransport::kRecord);
        MmioTransport::save_state(state, writer);
        const auto device = writer.group(MmioTransport::kDeviceRecord);
    }
    Fixture f;
    const auto restored = restore(f, writer.take());
    return restored ? "" : restored.error().message;
}

}  // namespace

TEST_CASE("mmio: a transport's state goes through records and comes back") {
    Fixture f;
    f.drive();
    f.device->activation->interrupt.signal_used();
    f.write(VIRTIO_MMIO_QUEUE_SEL, 1);
    f.write(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 7);
    const auto saved = save(f);

    Fixture g;
    const auto restored = restore(g, saved);
    if (!restored) FAIL(restored.error().message);
    CHECK(save(g) == saved);
    REQUIRE(g.device->activation);
    CHECK(g.device->activation->features == f.device->activation->features);
    CHECK(g.device->activation->queues[0].size() == 8);
    CHECK(g.interrupted());
}

TEST_CASE("mmio: a state that the transport cannot have is refused by the field's name") {
    Fixture f;
    f.drive();
    const MmioTransport::State good = f.transport->capture();
    const auto why = [&](const std::function<void(MmioTransport::State&)>& change) {
        return why_refused(good, change);
    };
    using State = MmioTransport::State;
    CHECK(why([](State&) {}) == "");
    CHECK(why([](State& s) { s.status = 2; }).starts_with("transport.registers.status: "));
    CHECK(why([](State& s) { s.status |= 0x20; }).starts_with("transport.registers.status: "));
    CHECK(why([](State& s) { s.driver_features |= 1ull << 50; }).starts_with("transport.registers.driver_features: "));
    CHECK(why([](State& s) { s.driver_features = 0; }).starts_with("transport.registers.driver_features: "));
    CHECK(why([](State& s) { s.interrupt_status = 4; }).starts_with("transport.registers.interrupt_status: "));
    CHECK(why([](State& s) { s.queues[0].layout.size = 3; }).starts_with("transport.queue[0].size: "));
    CHECK(why([](State& s) { s.queues[0].layout.size = 1024; }).starts_with("transport.queue[0].size: "));
    CHECK(why([](State& s) { s.queues[0].ready = 2; }).starts_with("transport.queue[0].ready: "));
    CHECK(why([](State& s) {
              s.queues[0].layout.used.value = UINT64_MAX;
          }).starts_with("transport: fake: queue 0: the used ring"));
    CHECK(why([](State& s) { s.queues.pop_back(); }).starts_with("transport.queue: "));
}
