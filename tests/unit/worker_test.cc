// SPDX-License-Identifier: Apache-2.0
#include "base/worker.h"

#include <catch2/catch.hpp>
#include <csignal>
#include <vector>

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
