// SPDX-License-Identifier: Apache-2.0
#include "base/worker.h"

#include <catch2/catch.hpp>
#include <csignal>
#include <vector>

#include "base/once.h"

using namespace wisp;

TEST_CASE("a worker does its tasks in order, and all of them before it goes") {
    std::vector<int> done;
    {
        auto worker = Worker::start("worker test");
        REQUIRE(worker);
        for (int i = 0; i < 100; ++i) (*worker)->run([&done, i] { done.push_back(i); });
    }
    REQUIRE(done.size() == 100);
    for (int i = 0; i < 100; ++i) CHECK(done[static_cast<size_t>(i)] == i);
}

TEST_CASE("signals to the process are not for workers") {
    sigset_t blocked;
    sigemptyset(&blocked);
    {
        auto worker = Worker::start("worker test");
        REQUIRE(worker);
        (*worker)->run([&blocked] { pthread_sigmask(SIG_BLOCK, nullptr, &blocked); });
    }
    for (const int others : {SIGTERM, SIGINT, SIGHUP}) CHECK(sigismember(&blocked, others) == 1);
    for (const int own : {SIGSEGV, SIGBUS, SIGSYS, SIGRTMIN}) CHECK(sigismember(&blocked, own) == 0);
}

TEST_CASE("work is done once, by whoever comes first, and all see the result") {
    for (int round = 0; round < 100; ++round) {
        Once<int> work;
        std::atomic<int> times = 0;
        const auto do_it = [&]() -> Result<int> { return ++times + 41; };
        int seen = 0;
        {
            auto worker = Worker::start("worker test");
            REQUIRE(worker);
            (*worker)->run([&] {
                work.run(do_it);
                seen = *work.wait();
            });
            work.run(do_it);
            work.look_out();
            CHECK(*work.wait() == 42);
            CHECK(work.done());
        }
        CHECK(seen == 42);
        CHECK(times == 1);
    }
}

TEST_CASE("whoever waits gets the error too") {
    Once<> work;
    CHECK(!work.done());
    CHECK(!work.wait_for(std::chrono::microseconds{1}));
    work.run([]() -> Result<void> { return fail("it rained"); });
    CHECK(work.wait_for(std::chrono::microseconds{1}));
    CHECK(work.wait().error().message == "it rained");
}
