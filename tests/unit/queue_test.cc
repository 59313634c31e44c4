// SPDX-License-Identifier: Apache-2.0
#include "virtio/queue.h"

#define VIRTIO_RING_NO_LEGACY
#include <linux/virtio_ring.h>

#include <array>
#include <catch2/catch.hpp>

#include "tests/support/fake_driver.h"
#include "virtio/cursor.h"
#include "virtio/device.h"

using namespace wisp;
using namespace wisp::virtio;
using wisp::test::FakeDriver;

namespace {

constexpr uint64_t kAll = kFeatureVersion1 | kFeatureEventIdx | kFeatureIndirectDesc;

// A queue of 8 with a driver on the other side.
struct Fixture {
    explicit Fixture(uint64_t features = kAll) : queue(*Queue::create(memory, driver.layout(), features, 256)) {}

    Queue::Pop pop() { return queue.pop(chain, storage); }
    // Pops a chain that must be at fault, returns it, and says why.
    std::string pop_fault() {
        if (pop() != Queue::Pop::kChain || !chain.fault()) return "";
        std::string fault = chain.fault();
        CHECK(chain.readable().empty());
        CHECK(chain.writable().empty());
        queue.push(std::move(chain), 0);
        return fault;
    }

    GuestMemory memory = test::make_memory();
    FakeDriver driver{memory, 8};
    Queue queue;
    std::array<GuestSlice, 8> storage;
    Chain chain;
};

std::string why(const GuestMemory& memory, const QueueState& state) {
    auto queue = Queue::create(memory, state, kAll, 256);
    return queue ? "" : queue.error().message;
}

}  // namespace

TEST_CASE("queue: its layout is checked before it is used") {
    const GuestMemory memory = test::make_memory();
    const QueueState good = FakeDriver(memory, 8).layout();
    CHECK(why(memory, good).empty());
    auto with = [&](auto change) {
        QueueState state = good;
        change(state);
        return why(memory, state);
    };
    CHECK(with([](QueueState& s) { s.size = 0; }) != "");
    CHECK(with([](QueueState& s) { s.size = 7; }) == "size 7 is not a power of two up to 256");
    CHECK(with([](QueueState& s) { s.size = 512; }) != "");
    CHECK(with([](QueueState& s) { s.descriptors.value += 8; }).find("aligned to 16") != std::string::npos);
    CHECK(with([](QueueState& s) { s.available.value += 1; }).find("aligned to 2") != std::string::npos);
    CHECK(with([](QueueState& s) { s.used.value += 2; }).find("aligned to 4") != std::string::npos);
    CHECK(with([](QueueState& s) { s.descriptors = {1ull << 40}; }).find("not in guest memory") != std::string::npos);
    CHECK(with([](QueueState& s) { s.descriptors = {UINT64_MAX & ~15ull}; }).find("not in guest memory") !=
          std::string::npos);
    // The last entries would lie in the hole behind the first region.
    CHECK(with([](QueueState& s) { s.used = {(16 << 20) - 64}; }).find("not in guest memory") != std::string::npos);
    CHECK(with([](QueueState& s) { s.available = {s.descriptors.value + 16}; }).find("overlaps") != std::string::npos);
    CHECK(with([](QueueState& s) { s.used = s.available; }) != "");
    CHECK(with([](QueueState& s) { s.descriptors = {s.used.value & ~15ull}; }).find("overlaps") != std::string::npos);
}

TEST_CASE("queue: one the driver did not enable is empty and silent") {
    Queue queue;
    Chain chain;
    CHECK(queue.pop(chain, {}) == Queue::Pop::kEmpty);
    CHECK_FALSE(queue.has_available());
    CHECK_FALSE(queue.publish());
    queue.disable_notifications();
    CHECK_FALSE(queue.enable_notifications());
}

TEST_CASE("queue: a chain arrives in order, readable before writable, and comes back with its length") {
    Fixture f;
    const uint16_t head = f.driver.chain().readable("he").readable("llo").writable(7).submit();
    REQUIRE(f.pop() == Queue::Pop::kChain);
    REQUIRE_FALSE(f.chain.fault());
    REQUIRE(f.chain.readable().size() == 2);
    REQUIRE(f.chain.writable().size() == 1);
    char text[5];
    CHECK(Reader(f.chain.readable()).read_some(std::as_writable_bytes(std::span(text))) == 5);
    CHECK(std::string(text, 5) == "hello");
    CHECK(f.pop() == Queue::Pop::kEmpty);

    f.queue.push(std::move(f.chain), 7);
    CHECK_FALSE(f.driver.used());
    (void)f.queue.publish();
    const auto used = f.driver.used();
    REQUIRE(used);
    CHECK(used->head == head);
    CHECK(used->written == 7);
}

TEST_CASE("queue: empty segments are left out") {
    Fixture f;
    f.driver.chain().descriptor(1ull << 50, 0, 0).readable("x").descriptor(0, 0, VRING_DESC_F_WRITE).submit();
    REQUIRE(f.pop() == Queue::Pop::kChain);
    CHECK(f.chain.readable().size() == 1);
    CHECK(f.chain.writable().empty());
    f.chain.abandon();
}

TEST_CASE("queue: an indirect table holds the chain, alone or after direct descriptors") {
    Fixture f;
    f.driver.chain().indirect().readable("a").readable("b").writable(1).submit();
    REQUIRE(f.pop() == Queue::Pop::kChain);
    CHECK(f.chain.readable().size() == 2);
    CHECK(f.chain.writable().size() == 1);
    f.queue.push(std::move(f.chain), 0);

    f.driver.chain().readable("a").indirect().readable("b").writable(1).writable(1).submit();
    REQUIRE(f.pop() == Queue::Pop::kChain);
    CHECK(f.chain.readable().size() == 2);
    CHECK(f.chain.writable().size() == 2);
    f.queue.push(std::move(f.chain), 0);
}

TEST_CASE("queue: an indirect table as long as the queue is legal, one longer is not") {
    Fixture f;
    auto eight = f.driver.chain().indirect();
    for (int i = 0; i < 8; ++i) eight.readable("x");
    eight.submit();
    REQUIRE(f.pop() == Queue::Pop::kChain);
    CHECK(f.chain.readable().size() == 8);
    f.queue.push(std::move(f.chain), 0);

    auto nine = f.driver.chain().indirect();
    for (int i = 0; i < 9; ++i) nine.descriptor(0, 0, 0);
    nine.submit();
    CHECK(f.pop_fault() == "chain longer than its queue");
}

TEST_CASE("queue: a bad chain is at fault, and the next one is served") {
    struct {
        const char* fault;
        void (*build)(FakeDriver&);
    } const cases[] = {
        {"buffer outside of guest memory", [](FakeDriver& d) { d.chain().descriptor(15 << 20, 2 << 20, 0).submit(); }},
        {"buffer outside of guest memory", [](FakeDriver& d) { d.chain().descriptor(UINT64_MAX - 1, 16, 0).submit(); }},
        {"readable descriptor after a writable one",
         [](FakeDriver& d) { d.chain().writable(1).readable("x").submit(); }},
        {"unknown descriptor flag", [](FakeDriver& d) { d.chain().descriptor(0x1000, 1, 0x8000).submit(); }},
        {"next descriptor lies beyond the table",
         [](FakeDriver& d) {
             d.write_descriptor(0, 0x1000, 1, VRING_DESC_F_NEXT, 8);
             d.make_available(0);
         }},
        {"chain longer than its queue",
         [](FakeDriver& d) {
             d.write_descriptor(0, 0x1000, 1, VRING_DESC_F_NEXT, 0);
             d.make_available(0);
         }},
        {"indirect table whose length is no multiple of 16",
         [](FakeDriver& d) { d.chain().descriptor(0x1000, 17, VRING_DESC_F_INDIRECT).submit(); }},
        {"indirect table whose length is no multiple of 16",
         [](FakeDriver& d) { d.chain().descriptor(0x1000, 0, VRING_DESC_F_INDIRECT).submit(); }},
        {"indirect table outside of guest memory",
         [](FakeDriver& d) { d.chain().descriptor(1ull << 40, 16, VRING_DESC_F_INDIRECT).submit(); }},
        {"descriptor is both indirect and followed by another",
         [](FakeDriver& d) { d.chain().descriptor(0x1000, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT).submit(); }},
        {"indirect descriptor within an indirect table",
         [](FakeDriver& d) { d.chain().indirect().descriptor(0x1000, 16, VRING_DESC_F_INDIRECT).submit(); }},
        {"indirect descriptor within an indirect table",  // the table is the ring's own: it names itself
         [](FakeDriver& d) {
             d.write_descriptor(0, d.layout().descriptors.value, 16, VRING_DESC_F_INDIRECT, 0);
             d.make_available(0);
         }},
        {"next descriptor lies beyond the table",
         [](FakeDriver& d) {
             d.chain().indirect().descriptor(0x1000, 1, VRING_DESC_F_NEXT).submit();
             const uint64_t table = d.memory.load<uint64_t>(d.layout().descriptors).value();
             CHECK(d.memory.store({table + 14}, uint16_t{1}));
         }},
    };
    for (const auto& bad : cases) {
        INFO(bad.fault);
        Fixture f;
        bad.build(f.driver);
        CHECK(f.pop_fault() == bad.fault);
        f.driver.chain().readable("good").submit();
        REQUIRE(f.pop() == Queue::Pop::kChain);
        CHECK_FALSE(f.chain.fault());
        f.queue.push(std::move(f.chain), 0);
        (void)f.queue.publish();
        CHECK(f.driver.used()->written == 0);
        CHECK(f.driver.used());
    }
}

TEST_CASE("queue: buffers of 4 GiB or more in sum are at fault") {
    const GuestMemory::Range ranges[] = {{{0}, 1ull << 31}};
    const GuestMemory memory = *GuestMemory::create(ranges, MemoryBacking::anonymous());
    FakeDriver driver(memory, 8);
    Queue queue = *Queue::create(memory, driver.layout(), kAll, 256);
    driver.chain().descriptor(0, 1u << 31, 0).descriptor(0, 1u << 31, 0).submit();
    Chain chain;
    std::array<GuestSlice, 8> storage;
    REQUIRE(queue.pop(chain, storage) == Queue::Pop::kChain);
    CHECK(std::string(chain.fault()) == "buffers of 4 GiB or more");
    chain.abandon();
}

TEST_CASE("queue: without INDIRECT_DESC an indirect descriptor is at fault") {
    Fixture f(kFeatureVersion1);
    f.driver.chain().indirect().readable("x").submit();
    CHECK(f.pop_fault() == "indirect descriptor without VIRTIO_F_INDIRECT_DESC");
}

TEST_CASE("queue: a chain with more segments than the device takes is at fault") {
    Fixture f;
    f.driver.chain().readable("a").readable("b").readable("c").submit();
    REQUIRE(f.queue.pop(f.chain, std::span(f.storage).first(2)) == Queue::Pop::kChain);
    CHECK(std::string(f.chain.fault()) == "more segments than the device takes");
    f.chain.abandon();
}

TEST_CASE("queue: an available index beyond the queue's length breaks the ring for good") {
    Fixture f;
    f.driver.set_available_index(9);
    CHECK(f.pop() == Queue::Pop::kBroken);
    REQUIRE(f.queue.fault());
    f.driver.set_available_index(1);
    CHECK(f.pop() == Queue::Pop::kBroken);
    CHECK_FALSE(f.queue.has_available());
}

TEST_CASE("queue: a head beyond the table breaks the ring") {
    Fixture f;
    f.driver.make_available(8);
    CHECK(f.pop() == Queue::Pop::kBroken);
}

TEST_CASE("queue: a chain put back is popped again") {
    Fixture f;
    f.driver.chain().readable("x").submit();
    REQUIRE(f.pop() == Queue::Pop::kChain);
    f.queue.unpop(std::move(f.chain));
    REQUIRE(f.pop() == Queue::Pop::kChain);
    CHECK(f.chain.readable().size() == 1);
    f.chain.abandon();
}

TEST_CASE("queue: without EVENT_IDX, flags silence the device and the driver") {
    Fixture f(kFeatureVersion1);
    auto serve = [&] {
        f.driver.chain().readable("x").submit();
        REQUIRE(f.pop() == Queue::Pop::kChain);
        f.queue.push(std::move(f.chain), 0);
        return f.queue.publish();
    };
    CHECK(serve());
    CHECK_FALSE(f.queue.publish());  // nothing new
    f.driver.set_available_flags(VRING_AVAIL_F_NO_INTERRUPT);
    CHECK_FALSE(serve());

    f.queue.disable_notifications();
    CHECK(f.driver.used_flags() == VRING_USED_F_NO_NOTIFY);
    CHECK_FALSE(f.queue.enable_notifications());
    CHECK(f.driver.used_flags() == 0);
}

TEST_CASE("queue: with EVENT_IDX, an interrupt is wanted when the used index passes the event") {
    Fixture f;
    auto serve = [&](int count) {
        for (int i = 0; i < count; ++i) f.driver.chain().readable("x").submit();
        for (int i = 0; i < count; ++i) {
            REQUIRE(f.pop() == Queue::Pop::kChain);
            f.queue.push(std::move(f.chain), 0);
        }
        return f.queue.publish();
    };
    f.driver.set_used_event(0);
    CHECK(serve(1));        // 0 -> 1 passes 0
    CHECK_FALSE(serve(1));  // 1 -> 2 does not
    f.driver.set_used_event(4);
    CHECK_FALSE(serve(2));  // 2 -> 4: not yet
    CHECK(serve(3));        // 4 -> 7 passes 4, in one batch
    f.driver.set_available_flags(VRING_AVAIL_F_NO_INTERRUPT);
    f.driver.set_used_event(7);
    CHECK(serve(1));  // section 2.7.7: the flag means nothing now
}

TEST_CASE("queue: asking for kicks again tells of chains that arrived meanwhile") {
    for (const uint64_t features : {kFeatureVersion1, kAll}) {
        Fixture f(features);
        f.queue.disable_notifications();
        f.driver.chain().readable("x").submit();
        CHECK(f.queue.enable_notifications());
        REQUIRE(f.pop() == Queue::Pop::kChain);
        f.queue.push(std::move(f.chain), 0);
        CHECK_FALSE(f.queue.enable_notifications());
        if (features & kFeatureEventIdx) CHECK(f.driver.available_event() == 1);
    }
}

TEST_CASE("queue: its saved state goes on where it was") {
    Fixture f;
    f.driver.chain().readable("one").submit();
    REQUIRE(f.pop() == Queue::Pop::kChain);
    f.queue.push(std::move(f.chain), 0);
    (void)f.queue.publish();
    const QueueState saved = f.queue.save();
    CHECK(saved.next_available == 1);
    CHECK(saved.next_used == 1);

    f.driver.chain().readable("two").submit();
    Queue restored = *Queue::create(f.memory, saved, kAll, 256);
    REQUIRE(restored.pop(f.chain, f.storage) == Queue::Pop::kChain);
    CHECK(f.chain.readable()[0].size() == 3);
    restored.push(std::move(f.chain), 0);
    (void)restored.publish();
    CHECK(f.driver.used_index() == 2);
}

TEST_CASE("cursor: a structure is read however it is split") {
    std::array<std::byte, 16> bytes;
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
    for (size_t first = 0; first <= bytes.size(); ++first) {
        for (size_t second = first; second <= bytes.size(); ++second) {
            GuestSlice slices[] = {
                {bytes.data(), first}, {bytes.data() + first, second - first}, {bytes.data() + second, 16 - second}};
            Reader reader(slices);
            const auto a = reader.read<uint64_t>();
            REQUIRE(a);
            CHECK(*a == 0x0706050403020100);
            CHECK(reader.remaining() == 8);
            CHECK(*reader.read<uint64_t>() == 0x0f0e0d0c0b0a0908);
            CHECK_FALSE(reader.read<uint8_t>());
        }
    }
}

TEST_CASE("cursor: the last byte comes off the end, whatever the segments") {
    std::array<std::byte, 4> bytes{};
    WritableSlice slices[] = {WritableSlice::over(bytes.data(), 3), WritableSlice::over(bytes.data() + 3, 1),
                              WritableSlice::over(bytes.data(), 0)};
    Writer writer(slices);
    CHECK(writer.take_last_byte().host_address() == &bytes[3]);
    CHECK(writer.remaining() == 3);
    CHECK(writer.rest().size() == 1);
    writer.skip(2);
    CHECK(writer.take_last_byte().host_address() == &bytes[2]);
    CHECK(writer.take_last_byte().empty());
    CHECK_FALSE(writer.write(uint8_t{1}));
}
