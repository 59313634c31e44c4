// SPDX-License-Identifier: Apache-2.0
#include "base/mailbox.h"

#include <catch2/catch.hpp>

#include <thread>
#include <vector>

using namespace wisp;

TEST_CASE("mailbox: messages of another thread run on the loop, in their order") {
    auto loop = *Loop::create(Loop::Backend::kEpoll);
    Mailbox box(*loop);
    std::vector<int> ran;
    std::thread sender([&] {
        for (int i = 0; i < 1000; ++i)
            while (!box.send([&ran, i] { ran.push_back(i); })) std::this_thread::yield();
        while (!box.send([&] { loop->stop(); })) std::this_thread::yield();
    });
    REQUIRE(loop->run().has_value());
    sender.join();
    REQUIRE(ran.size() == 1000);
    CHECK(std::is_sorted(ran.begin(), ran.end()));
}

TEST_CASE("mailbox: it is bounded, and takes messages again when the loop has run some") {
    auto loop = *Loop::create(Loop::Backend::kEpoll);
    Mailbox box(*loop);
    size_t ran = 0;
    for (size_t i = 0; i < limits::kMailboxMessages; ++i) REQUIRE(box.send([&] { ++ran; }));
    CHECK_FALSE(box.send([&] { ran += 1000; }));
    REQUIRE(loop->turn(-1).has_value());
    CHECK(ran == limits::kMailboxMessages);
    CHECK(box.send([&] { ++ran; }));
    REQUIRE(loop->turn(-1).has_value());
    CHECK(ran == limits::kMailboxMessages + 1);
}

TEST_CASE("mailbox: a message may send another one") {
    auto loop = *Loop::create(Loop::Backend::kEpoll);
    Mailbox box(*loop);
    int ran = 0;
    REQUIRE(box.send([&] {
        ++ran;
        CHECK(box.send([&] { ++ran; }));
    }));
    while (ran < 2) REQUIRE(loop->turn(-1).has_value());
    CHECK(ran == 2);
}
