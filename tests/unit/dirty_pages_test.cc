// SPDX-License-Identifier: Apache-2.0
//
// The pages that the monitor writes are marked, each of them, before the write: by every way in which a queue or a
// device writes to guest memory.
#include "base/dirty_pages.h"

#include "virtio/vsock/device.h"

#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "base/limits.h"
#include "tests/support/block_rig.h"
#include "tests/support/guest.h"
#include "tests/support/kernel_image.h"
#include "tests/support/net_rig.h"
#include "tests/support/vsock_guest.h"
#include "virtio/cursor.h"
#include "vmm/boot/boot.h"

using namespace wisp;
using namespace wisp::test;

namespace {

constexpr uint64_t kPage = limits::kPageSize;

unsigned test_seed() {
    const char* given = getenv("WISP_TEST_SEED");
    return given ? static_cast<unsigned>(strtoul(given, nullptr, 0)) : std::random_device()();
}

/// What guest memory holds at one moment. The driver's own writes count as the monitor's, because a test's driver
/// writes through GuestMemory: so the marks are cleared here.
class Before {
public:
    explicit Before(const GuestMemory& memory) : memory_(memory) {
        for (size_t i = 0; i < memory.regions().size(); ++i) {
            (void)take(i);
            content_.push_back(content_of(i));
        }
    }

    /// Pages that differ from then and are not marked, and pages that are marked.
    struct Found {
        size_t missed = 0, changed = 0, marked = 0;
    };
    Found compare() const {
        Found found;
        for (size_t i = 0; i < content_.size(); ++i) {
            const std::vector<uint64_t> log = take(i);
            const std::string now = content_of(i);
            for (size_t page = 0; page < now.size() / kPage; ++page) {
                const bool marked = log[page / 64] >> page % 64 & 1;
                const bool changed = now.compare(page * kPage, kPage, content_[i], page * kPage, kPage) != 0;
                found.marked += marked;
                found.changed += changed;
                found.missed += changed && !marked;
            }
        }
        return found;
    }

private:
    std::vector<uint64_t> take(size_t region) const {
        std::vector<uint64_t> log(memory_.regions()[region].size / kPage / 64 + 1);
        memory_.take_written_pages(region, log);
        return log;
    }
    std::string content_of(size_t region) const {
        return guest_bytes(memory_, memory_.regions()[region].start, memory_.regions()[region].size);
    }

    const GuestMemory& memory_;
    std::vector<std::string> content_;
};

/// No page that changed is unmarked, and something was written at all.
void check(const Before& before) {
    const Before::Found found = before.compare();
    CHECK(found.missed == 0);
    CHECK(found.changed > 0);
    CHECK(found.changed <= found.marked);
}

}  // namespace

TEST_CASE("dirty pages: random marks come back once, from any part") {
    const unsigned seed = test_seed();
    INFO("WISP_TEST_SEED=" << seed);
    std::mt19937 random(seed);
    const auto any = [&](uint64_t below) { return std::uniform_int_distribution<uint64_t>(0, below - 1)(random); };
    constexpr uint64_t kPages = 1000;
    DirtyPages pages(kPages);
    std::vector<bool> model(kPages);
    for (int round = 0; round < 2000; ++round) {
        const uint64_t first = any(kPages), last = first + any(kPages - first);
        if (any(3) > 0) {
            pages.mark(first, last);
            for (uint64_t page = first; page <= last; ++page) model[page] = true;
        } else {
            std::vector<uint64_t> log((last - first) / 64 + 1);
            pages.take(first, last - first + 1, log);
            for (uint64_t page = first; page <= last; ++page) {
                REQUIRE((log[(page - first) / 64] >> (page - first) % 64 & 1) == model[page]);
                model[page] = false;
            }
        }
        REQUIRE(pages.count() == static_cast<uint64_t>(std::count(model.begin(), model.end(), true)));
    }
    for (uint64_t page = 0; page < kPages; ++page) CHECK(pages.is_marked(page) == model[page]);
}

TEST_CASE("dirty pages: a region's marks are its own, wherever the region begins") {
    const GuestMemory::Range ranges[] = {{{0}, 3 * kPage}, {{0x100000}, 70 * kPage}, {{0x200000}, kPage}};
    GuestMemory memory = *GuestMemory::create(ranges, MemoryBacking::anonymous());
    CHECK_FALSE(memory.tracks_writes());
    REQUIRE(memory.store({0}, 1));  // not tracked yet
    memory.track_writes();
    REQUIRE(memory.store({2 * kPage}, 1));
    REQUIRE(memory.store({0x100000 + 69 * kPage}, 1));
    REQUIRE(memory.store({0x100000 + kPage - 2}, 0x01010101));  // across two pages
    REQUIRE(memory.writable({0x200000}, 0));                    // an empty range is no write
    CHECK_FALSE(memory.writable({0x200000}, kPage + 1));
    std::vector<uint64_t> first(1), second(2), third(1);
    memory.take_written_pages(1, second);
    memory.take_written_pages(0, first);
    memory.take_written_pages(2, third);
    CHECK(first == std::vector<uint64_t>{4});
    CHECK(second == std::vector<uint64_t>{3, 1ull << 5});
    CHECK(third == std::vector<uint64_t>{0});
    second = {1ull << 9, 0};  // as KVM's log would have it
    memory.take_written_pages(1, second);
    CHECK(second == std::vector<uint64_t>{1ull << 9, 0});
}

TEST_CASE("dirty pages: a queue marks the buffers that it hands out and the ring that it writes") {
    const unsigned seed = test_seed();
    INFO("WISP_TEST_SEED=" << seed);
    std::mt19937 random(seed);
    const auto any = [&](uint32_t below) { return std::uniform_int_distribution<uint32_t>(0, below - 1)(random); };
    for (const uint64_t features : {uint64_t{0}, virtio::kFeatureEventIdx | virtio::kFeatureIndirectDesc}) {
        GuestMemory memory = make_memory();
        memory.track_writes();
        FakeDriver driver(memory, 16, 0x10ff0);
        auto queue = *virtio::Queue::create(memory, driver.layout(), features, 256);
        for (int round = 0; round < 300; ++round) {
            driver.recycle();
            auto chain = driver.chain();
            if (features && any(2)) chain.indirect();
            chain.readable("for the device");
            for (uint32_t i = any(3) + 1; i > 0; --i) chain.writable(1 + any(9000));
            chain.submit();
            const Before before(memory);
            virtio::Chain popped;
            std::array<GuestSlice, 16> storage;
            REQUIRE(queue.pop(popped, storage) == virtio::Queue::Pop::kChain);
            REQUIRE_FALSE(popped.fault());
            const std::string text(any(20000), static_cast<char>('a' + any(26)));
            virtio::Writer(popped.writable()).write_some(std::as_bytes(std::span(text)));
            queue.push(std::move(popped), static_cast<uint32_t>(text.size()));
            (void)queue.publish();
            any(2) ? queue.disable_notifications() : (void)queue.enable_notifications();
            const auto found = before.compare();
            CHECK(found.missed == 0);
            CHECK(found.changed > 0);
            CHECK(found.marked <= 20);  // not simply everything
            REQUIRE(driver.used());
        }
    }
}

TEST_CASE("dirty pages: what a drive reads is marked, by both engines") {
    const unsigned seed = test_seed();
    INFO("WISP_TEST_SEED=" << seed);
    std::mt19937 random(seed);
    const auto any = [&](uint32_t below) { return std::uniform_int_distribution<uint32_t>(0, below - 1)(random); };
    const TempFile file(pattern(256 * 512, 3));
    for (const auto engine : {virtio::BlockConfig::IoEngine::kSync, virtio::BlockConfig::IoEngine::kAsync}) {
        Drive drive(file, {.io_engine = engine});
        drive.memory.track_writes();
        for (int round = 0; round < 100; ++round) {
            drive.driver.recycle();
            auto chain = drive.driver.chain();
            if (any(2)) chain.indirect();
            chain.readable(block_header(any(4) ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_GET_ID, any(64)));
            for (uint32_t i = 1 + any(4); i > 0; --i) chain.writable(512 * (1 + any(16)));
            chain.writable(1).submit();
            const Before before(drive.memory);
            drive.wait();
            check(before);
        }
    }
}

TEST_CASE("dirty pages: received frames are marked, merged or not") {
    const unsigned seed = test_seed();
    INFO("WISP_TEST_SEED=" << seed);
    std::mt19937 random(seed);
    const auto any = [&](uint32_t below) { return std::uniform_int_distribution<uint32_t>(0, below - 1)(random); };
    for (const bool merged : {true, false}) {
        NetRig rig({}, merged ? std::nullopt : std::optional<uint64_t>(0));
        rig.memory.track_writes();
        for (int round = 0; round < 100; ++round) {
            while (rig.rx.used()) {
            }
            rig.rx.recycle();
            for (int i = 0; i < 8; ++i) rig.post(merged ? 200 + any(3000) : 2000);
            const Before before(rig.memory);
            for (uint32_t i = 1 + any(3); i > 0; --i) rig.tap->push(make_frame(60 + any(1400), round));
            rig.kick_rx();
            rig.turn();
            check(before);
            const Before at_pause(rig.memory);
            rig.pause();  // gives the buffers back that were not used
            CHECK(at_pause.compare().missed == 0);
            rig.net->resume();
            rig.net->reset([] {});
            rig.activate();
        }
    }
}

TEST_CASE("dirty pages: packets of vsock are marked, with the header apart or not") {
    for (const bool split : {false, true}) {
        VsockGuest guest({.split_header = split, .repost = false});
        guest.memory.track_writes();
        const OwnedFd listener(host_listen(guest.uds_path() + "_9"));
        const virtio::VsockPorts ports{.guest = 5, .host = 9};
        const Before before(guest.memory);
        guest.send(virtio::VsockOp::kRequest, ports);
        const auto response = guest.next();
        CHECK(response.op() == virtio::VsockOp::kResponse);
        check(before);
        const OwnedFd host(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        REQUIRE(host.valid());
        for (int i = 0; i < 10; ++i) {
            const Before earlier(guest.memory);
            const std::string text(3000, static_cast<char>('a' + i));
            REQUIRE(write(host.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
            REQUIRE(guest.next().data == text);
            check(earlier);
        }
    }
}

TEST_CASE("dirty pages: a boot marks all that it loads") {
    ElfImage image;
    image.load(0x1000, 0x200000, pattern(0x5000, 1), 0x1000);
    const TempFile kernel(image.bytes()), initrd(pattern(10000, 7));
    GuestMemory memory = machine_memory(8 * limits::kMiB);
    memory.track_writes();
    boot::BootRequest request;
    request.kernel = {kernel.fd(), kernel.path()};
    request.initrd = boot::BootFile{initrd.fd(), initrd.path()};
    request.command_line = *boot::CommandLine::create(std::nullopt);
    const Before before(memory);
    REQUIRE(boot::set_up_boot(memory, request));
    check(before);
}
