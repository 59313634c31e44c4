// SPDX-License-Identifier: Apache-2.0
#include "base/loop.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include <optional>
#include <thread>
#include <vector>

#include "tests/support/refused_calls.h"

using namespace wisp;

namespace {

struct CountingWatcher final : Watcher {
    void on_ready(uint32_t) override {
        ++count;
        if (then) then();
    }
    int count = 0;
    std::function<void()> then;
};

std::unique_ptr<Loop> make_loop(Loop::Backend backend) {
    auto loop = Loop::create(backend);
    REQUIRE(loop.has_value());
    return *std::move(loop);
}

}  // namespace

// Every promise holds on both ways to wait: a host without io_uring must not behave differently.
static const Loop::Backend kBackends[] = {Loop::Backend::kAutomatic, Loop::Backend::kEpoll};

TEST_CASE("loop: each signal of an eventfd that is never read is an edge") {
    for (const auto backend : kBackends) {
        auto loop = make_loop(backend);
        auto event = *create_eventfd();
        CountingWatcher watcher;
        const Watch watch = *loop->watch(event.get(), EPOLLIN, watcher);
        for (int i = 1; i <= 5; ++i) {
            signal_eventfd(event.get());
            while (watcher.count < i) REQUIRE(loop->turn(-1).has_value());
            CHECK(watcher.count == i);
        }
    }
}

TEST_CASE("loop: a descriptor that is ready before it is watched is reported") {
    for (const auto backend : kBackends) {
        auto loop = make_loop(backend);
        auto event = *create_eventfd();
        signal_eventfd(event.get());
        CountingWatcher watcher;
        const Watch watch = *loop->watch(event.get(), EPOLLIN, watcher);
        while (watcher.count == 0) REQUIRE(loop->turn(-1).has_value());
    }
}

// A descriptor that is not open yet stands for whatever makes a host refuse a poll.
TEST_CASE("loop: a descriptor that the host cannot watch is tried again, and watched when it can be") {
    auto loop = make_loop(Loop::Backend::kAutomatic);
    if (!loop->uses_io_uring()) return;  // epoll refuses at once: watch() fails
    auto event = *create_eventfd();
    const int number = fcntl(event.get(), F_DUPFD_CLOEXEC, 700);
    REQUIRE(number >= 700);
    close(number);
    CountingWatcher watcher;
    Watch watch = *loop->watch(number, EPOLLIN, watcher);
    while (watcher.count < 3) REQUIRE(loop->turn(-1).has_value());  // it may be ready, for all that is known
    REQUIRE(dup2(event.get(), number) == number);
    const int before = watcher.count;
    signal_eventfd(event.get());
    while (watcher.count == before) REQUIRE(loop->turn(-1).has_value());
    watch.reset();
    close(number);
}

TEST_CASE("loop: a ring that takes no submissions for a while loses no watch", "[filters]") {
    CHECK(test::in_child([] {
        auto loop = make_loop(Loop::Backend::kAutomatic);
        if (!loop->uses_io_uring()) return true;
        constexpr int kMost = 8;
        std::atomic<int> listener = -1, refused = 0;
        std::thread([&] { test::refuse_first_calls(listener, refused, kMost); }).detach();
        listener = test::divert(SYS_io_uring_enter, SECCOMP_RET_USER_NOTIF);
        if (listener < 0) return false;
        // More than the submission queue holds.
        constexpr size_t kEvents = 2 * limits::kLoopRingEntries;
        std::vector<OwnedFd> events(kEvents);
        std::vector<CountingWatcher> watchers(kEvents);
        std::vector<Watch> watches;
        for (size_t i = 0; i < kEvents; ++i) {
            events[i] = *create_eventfd();
            watches.push_back(*loop->watch(events[i].get(), EPOLLIN, watchers[i]));
        }
        for (const OwnedFd& event : events) signal_eventfd(event.get());
        for (const CountingWatcher& watcher : watchers)
            while (watcher.count == 0) REQUIRE(loop->turn(10'000'000).has_value());
        watches.clear();
        return refused == kMost;
    }));
}

TEST_CASE("loop: nothing is reported after the watch has ended") {
    for (const auto backend : kBackends) {
        auto loop = make_loop(backend);
        auto gone = *create_eventfd(), other = *create_eventfd();
        CountingWatcher never, seen;
        {
            const Watch watch = *loop->watch(gone.get(), EPOLLIN, never);
            signal_eventfd(gone.get());
        }
        const Watch watch = *loop->watch(other.get(), EPOLLIN, seen);
        signal_eventfd(other.get());
        while (seen.count == 0) REQUIRE(loop->turn(-1).has_value());
        CHECK(never.count == 0);
    }
}

TEST_CASE("loop: a watcher may end its own watch, and slots are used again") {
    for (const auto backend : kBackends) {
        auto loop = make_loop(backend);
        for (int i = 0; i < 2000; ++i) {
            auto event = *create_eventfd();
            CountingWatcher watcher;
            Watch watch = *loop->watch(event.get(), EPOLLIN, watcher);
            watcher.then = [&] { watch.reset(); };
            signal_eventfd(event.get());
            while (watcher.count == 0) REQUIRE(loop->turn(-1).has_value());
            REQUIRE_FALSE(watch.active());
        }
    }
}

TEST_CASE("loop: timers expire in order of their deadlines, and not when cancelled") {
    for (const auto backend : kBackends) {
        auto loop = make_loop(backend);
        std::string order;
        Timer late(*loop, [&] { order += 'c'; }), early(*loop, [&] { order += 'a'; }),
            off(*loop, [&] { order += 'x'; });
        Timer again(*loop, [&] { order += 'b'; });
        late.arm(3'000'000);
        off.arm(500'000);
        again.arm(50'000'000'000);
        again.arm(2'000'000);
        early.arm(1'000'000);
        off.cancel();
        while (order.size() < 3) REQUIRE(loop->turn(-1).has_value());
        CHECK(order == "abc");
        CHECK_FALSE(late.armed());
    }
}

TEST_CASE("loop: a turn expires each timer once, however often its callback arms it again") {
    for (const auto backend : kBackends) {
        auto loop = make_loop(backend);
        int expired = 0, others = 0;
        std::optional<Timer> timer;
        timer.emplace(*loop, [&] {
            ++expired;
            if (expired < 1000) timer->arm(0);
        });
        Timer other(*loop, [&] { ++others; });
        timer->arm(0);
        other.arm(0);
        REQUIRE(loop->turn(-1).has_value());
        CHECK(expired == 1);
        CHECK(others == 1);
        for (int turn = 2; turn < 10; ++turn) {
            REQUIRE(loop->turn(-1).has_value());
            CHECK(expired == turn);
        }
        timer->cancel();
    }
}

TEST_CASE("loop: a timer past the end of time does not expire, and others do") {
    for (const auto backend : kBackends) {
        auto loop = make_loop(backend);
        int never = 0, soon = 0;
        Timer first(*loop, [&] { ++never; }), second(*loop, [&] { ++never; }), third(*loop, [&] { ++soon; });
        first.arm(UINT64_MAX);
        second.arm(UINT64_MAX - monotonic_ns() - 1'000'000'000);
        REQUIRE(loop->turn(0).has_value());
        third.arm(1000);
        while (soon == 0) REQUIRE(loop->turn(-1).has_value());
        CHECK(never == 0);
        CHECK(first.armed());
    }
}

TEST_CASE("loop: a doorbell rung by another thread is answered on the loop, and stop ends run") {
    for (const auto backend : kBackends) {
        auto loop = make_loop(backend);
        std::atomic<int> rung = 0;
        int answered = 0, seen = 0;
        Doorbell bell(*loop, [&] {
            ++answered;
            seen = rung;  // of every ring, at least one answer comes after it
            if (seen == 10'000) loop->stop();
        });
        std::thread ringer([&] {
            for (int i = 0; i < 10'000; ++i) {
                ++rung;
                bell.ring();
            }
        });
        REQUIRE(loop->run().has_value());
        ringer.join();
        CHECK(seen == 10'000);
        CHECK(answered <= 10'000);
    }
}

TEST_CASE("loop: a doorbell's answer may ring it again, and may remove another doorbell") {
    for (const auto backend : kBackends) {
        auto loop = make_loop(backend);
        int again = 0, last = 0;
        std::optional<Doorbell> first;
        std::optional<Doorbell> second(std::in_place, *loop, [&] {
            if (++again < 3) return second->ring();
            first.reset();
        });
        first.emplace(*loop, [] {});
        Doorbell third(*loop, [&] { ++last; });
        second->ring();
        third.ring();
        while (again < 3 || last < 1) REQUIRE(loop->turn(-1).has_value());
        CHECK(again == 3);
        CHECK(last == 1);
    }
}

TEST_CASE("loop: the longest turn is measured, and its budget ends") {
    auto loop = make_loop(Loop::Backend::kEpoll);
    bool left_before = false, left_after = true;
    Doorbell slow(*loop, [&] {
        left_before = loop->budget().left();
        loop->budget().take(limits::kTurnBytes);
        left_after = loop->budget().left();
        const uint64_t start_ns = monotonic_ns();
        while (monotonic_ns() - start_ns < 5'000'000) continue;
    });
    slow.ring();
    REQUIRE(loop->turn(-1).has_value());
    CHECK(left_before);
    CHECK_FALSE(left_after);
    CHECK(loop->longest_turn_ns() >= 5'000'000);
}

namespace {

// Work that shows in memory only, as a virtqueue's does.
struct CountingSource final : PollSource {
    bool poll() override {
        ++looks;
        if (work == 0) return false;
        --work;
        ++done;
        return true;
    }
    bool arm() override {
        ++armed;
        return work > 0;
    }
    int work = 0, done = 0, armed = 0, looks = 0;
};

}  // namespace

TEST_CASE("loop: a source is armed before the loop sleeps, and work that is there already is not slept over") {
    for (const auto backend : kBackends) {
        auto loop = make_loop(backend);
        CountingSource source;
        {
            const Polling polling = loop->poll(source);
            source.work = 3;
            while (source.done < 3) REQUIRE(loop->turn(-1).has_value());  // would sleep for ever
            const int armed = source.armed;
            REQUIRE(loop->turn(1'000'000).has_value());
            CHECK(source.armed > armed);
        }
        source.work = 1;
        REQUIRE(loop->turn(1'000'000).has_value());
        CHECK(source.done == 3);
    }
}

TEST_CASE("loop: a timer that a source arms just before the loop sleeps is not slept over") {
    struct Source final : PollSource {
        bool poll() override { return false; }
        bool arm() override {
            if (!std::exchange(armed, true)) timer->arm(1'000'000);
            return false;
        }
        Timer* timer = nullptr;
        bool armed = false;
    };
    for (const auto backend : kBackends) {
        auto loop = make_loop(backend);
        bool expired = false;
        Timer timer(*loop, [&] { expired = true; }), guard(*loop, [] {});
        guard.arm(2'000'000'000);  // so that a loop at fault ends the test
        Source source;
        source.timer = &timer;
        const Polling polling = loop->poll(source);
        const uint64_t start_ns = monotonic_ns();
        const auto took_ns = [&] { return monotonic_ns() - start_ns; };
        // A turn may come back before anything is due.
        while (!expired && took_ns() < 1'900'000'000) REQUIRE(loop->turn(-1).has_value());
        CHECK(expired);
        CHECK(took_ns() < 1'900'000'000);
    }
}

TEST_CASE("loop: busy-polling starts where it pays and stops where it does not") {
    auto loop = make_loop(Loop::Backend::kAutomatic);
    if (!loop->uses_io_uring()) return;
    loop->set_busy_poll_ns(20'000'000);  // long enough for the slowest machine's sleep to be shorter
    auto event = *create_eventfd();
    CountingWatcher watcher;
    const Watch watch = *loop->watch(event.get(), EPOLLIN, watcher);
    CountingSource source;
    const Polling polling = loop->poll(source);
    auto looks = [&](int64_t timeout_ns) {
        const int before = source.looks;
        REQUIRE(loop->turn(timeout_ns).has_value());
        return source.looks - before;
    };
    CHECK(looks(1'000'000) == 1);
    for (int i = 0; i < 20; ++i) {  // short sleeps: it learns
        signal_eventfd(event.get());
        REQUIRE(loop->turn(-1).has_value());
    }
    CHECK(looks(30'000'000) > 10);
    for (int i = 0; i < 20; ++i) REQUIRE(loop->turn(25'000'000).has_value());  // nothing comes: it unlearns
    CHECK(looks(1'000'000) == 1);
}

TEST_CASE("loop: a length that pays is not given up for a few spins in vain") {
    constexpr uint64_t kMost_ns = 50'000, kShort_ns = 2'000, kLong_ns = 4'000'000;
    Spin spin;
    CHECK(spin.length_ns() == 0);
    for (int i = 0; i < 10; ++i) spin.slept(kShort_ns, kMost_ns);
    CHECK(spin.length_ns() == kMost_ns);
    // The other side answers at once, but is kept from its CPU now and then.
    for (int round = 0; round < 100; ++round) {
        for (int i = 0; i < 1000; ++i) spin.found_after(1'000);
        spin.found_nothing();
        spin.slept(kLong_ns, kMost_ns);
        CHECK(spin.length_ns() > 0);
    }
    // It goes away.
    for (int i = 0; i < 10; ++i) {
        spin.found_nothing();
        spin.slept(kLong_ns, kMost_ns);
    }
    CHECK(spin.length_ns() == 0);
}

TEST_CASE("loop: a spin that only keeps the other side from the CPU is given up") {
    constexpr uint64_t kMost_ns = 50'000;
    Spin spin;
    for (int i = 0; i < 10; ++i) spin.slept(2'000, kMost_ns);
    for (int i = 0; i < 16; ++i) {
        spin.found_nothing();
        spin.slept(40'000, kMost_ns);  // it comes as soon as we sleep
    }
    CHECK(spin.length_ns() == 0);
    for (int i = 0; i < 500; ++i) spin.slept(2'000, kMost_ns);
    CHECK(spin.length_ns() == 0);  // not at once again
}

TEST_CASE("loop: what pays where an answer is expected is learned by itself") {
    auto loop = make_loop(Loop::Backend::kAutomatic);
    if (!loop->uses_io_uring()) return;
    loop->set_busy_poll_ns(20'000'000);
    auto event = *create_eventfd();
    CountingWatcher watcher;
    const Watch watch = *loop->watch(event.get(), EPOLLIN, watcher);
    CountingSource source;
    const Polling polling = loop->poll(source);
    for (int i = 0; i < 20; ++i) {
        loop->expect_answer();
        signal_eventfd(event.get());
        REQUIRE(loop->turn(-1).has_value());
    }
    const auto looks = [&] {
        const int before = source.looks;
        REQUIRE(loop->turn(30'000'000).has_value());
        return source.looks - before;
    };
    CHECK(looks() == 1);
    loop->expect_answer();
    CHECK(looks() > 10);
    CHECK(looks() == 1);
}

TEST_CASE("loop: a busy source does not keep timers and other threads' work waiting") {
    auto loop = make_loop(Loop::Backend::kAutomatic);
    loop->set_busy_poll_ns(1'000'000'000);
    CountingSource source;
    const Polling polling = loop->poll(source);
    source.work = INT32_MAX;
    bool expired = false, posted = false;
    Timer timer(*loop, [&] { expired = true; });
    timer.arm(2'000'000);
    Doorbell bell(*loop, [&] { posted = true; });
    bell.ring();
    const uint64_t latest_ns = monotonic_ns() + 30'000'000'000;
    while (!(expired && posted) && monotonic_ns() < latest_ns) REQUIRE(loop->turn(-1).has_value());
    CHECK(expired);
    CHECK(posted);
}
