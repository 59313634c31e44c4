// SPDX-License-Identifier: Apache-2.0
#include "vmm/build/lanes.h"

#include <mutex>
#include <string>
#include <thread>

#include "vmm/build/boot.h"
#undef CHECK  // Catch2's is meant below
#include <catch2/catch.hpp>

using namespace wisp;
using namespace wisp::build;

namespace {

constexpr auto kShared = Lanes::Cpus::kShared;

// A recipe whose steps note who ran them.
class Notes {
public:
    Result<void> a(unsigned) { return note("a"); }
    Result<void> b(unsigned) { return note("b"); }
    Result<void> c(unsigned) { return note("c"); }
    Result<void> d(unsigned) { return note("d"); }
    Result<void> each(unsigned vcpu) { return note("each" + std::to_string(vcpu)); }
    Result<void> slow(unsigned) {
        std::unique_lock lock(mutex_);
        released_.wait(lock, [this] { return released; });
        log += "slow ";
        return {};
    }
    Result<void> release(unsigned) {
        const std::lock_guard lock(mutex_);
        released = true;
        released_.notify_all();
        log += "release ";
        return {};
    }
    Result<void> fails(unsigned) { return fail("no such luck"); }

    std::string log;
    bool released = false;

private:
    Result<void> note(const std::string& name) {
        const std::lock_guard lock(mutex_);
        log += name + " ";
        return {};
    }
    std::mutex mutex_;
    std::condition_variable released_;
};

// Runs a recipe on two lanes and `others` threads of other vCPUs.
template <size_t N>
Result<void> run(Notes& notes, const Step<Notes> (&steps)[N], unsigned others = 0) {
    const auto plans = plans_of(steps);
    Lanes lanes(plans, kShared);
    lanes.set_other_vcpus(others);
    std::vector<std::thread> threads;
    const auto start = [&](Lane lane, unsigned vcpu) {
        lanes.enter();
        threads.emplace_back([&, lane, vcpu] {
            run_lane(lanes, lane, notes, steps, vcpu);
            lanes.leave();
        });
    };
    start(Lane::kBootVcpu, 0);
    for (unsigned i = 1; i <= others; ++i) start(Lane::kOtherVcpus, i);
    run_lane(lanes, Lane::kLoop, notes, steps);
    auto outcome = lanes.wait_until_left();
    for (std::thread& thread : threads) thread.join();
    return outcome;
}

}  // namespace

TEST_CASE("lanes: a step waits for its predecessors on the other lane") {
    static constexpr Step<Notes> kSteps[] = {
        {{"d", Lane::kLoop, after(1, 2, 3)}, &Notes::d},
        {{"a", Lane::kBootVcpu}, &Notes::a},
        {{"b", Lane::kLoop, after(1)}, &Notes::b},
        {{"c", Lane::kBootVcpu, after(2)}, &Notes::c},
    };
    Notes notes;
    REQUIRE(run(notes, kSteps));
    CHECK(notes.log == "a b c d ");
}

TEST_CASE("lanes: a lane runs its own steps before those of either lane") {
    static constexpr Step<Notes> kSteps[] = {
        {{"a", Lane::kEither}, &Notes::a},
        {{"b", Lane::kLoop}, &Notes::b},
        {{"c", Lane::kEither, after(0)}, &Notes::c},
    };
    const auto plans = plans_of(kSteps);
    Lanes lanes(plans, kShared);
    Notes notes;
    run_lane(lanes, Lane::kLoop, notes, kSteps);
    CHECK(notes.log == "b a c ");
    CHECK(lanes.wait_until_left());
}

TEST_CASE("lanes: the loop's lane takes over what the boot vCPU's is too busy for") {
    static constexpr Step<Notes> kSteps[] = {
        {{"slow", Lane::kBootVcpu}, &Notes::slow},
        {{"a", Lane::kBootVcpu, 0, Hint::kTakeOver}, &Notes::a},
        {{"release", Lane::kLoop, after(1)}, &Notes::release},
        {{"b", Lane::kLoop, after(0, 2)}, &Notes::b},
    };
    Notes notes;
    REQUIRE(run(notes, kSteps));
    CHECK((notes.log == "a release slow b "));
}

TEST_CASE("lanes: a filler runs only where there is time, and no lane waits for it") {
    static constexpr Step<Notes> kIdle[] = {
        {{"slow", Lane::kBootVcpu}, &Notes::slow},
        {{"release", Lane::kLoop, 0, Hint::kFiller}, &Notes::release},
        {{"b", Lane::kLoop, after(0)}, &Notes::b},
    };
    Notes notes;
    REQUIRE(run(notes, kIdle));
    CHECK(notes.log == "release slow b ");

    static constexpr Step<Notes> kBusy[] = {
        {{"a", Lane::kLoop}, &Notes::a},
        {{"c", Lane::kLoop, after(0), Hint::kFiller}, &Notes::c},
    };
    Notes busy;
    REQUIRE(run(busy, kBusy));
    CHECK(busy.log == "a ");
}

TEST_CASE("lanes: a given step is waited for, and another lane's work goes on meanwhile") {
    static constexpr Step<Notes> kSteps[] = {
        {{"given", Lane::kGiven}},
        {{"a", Lane::kEither}, &Notes::a},
        {{"b", Lane::kBootVcpu, after(0, 1)}, &Notes::b},
    };
    const auto plans = plans_of(kSteps);
    Lanes lanes(plans, kShared);
    Notes notes;
    lanes.enter();
    std::thread other([&] {
        run_lane(lanes, Lane::kBootVcpu, notes, kSteps);
        lanes.leave();
    });
    while (!lanes.is_done(1)) std::this_thread::yield();
    CHECK_FALSE(lanes.is_done(2));
    lanes.give(0);
    CHECK(lanes.wait_until_left());
    other.join();
    CHECK(notes.log == "a b ");
}

TEST_CASE("lanes: each other vCPU runs the steps of its kind, and what follows waits for all") {
    static constexpr Step<Notes> kSteps[] = {
        {{"a", Lane::kLoop}, &Notes::a},
        {{"each", Lane::kOtherVcpus, after(0)}, &Notes::each},
        {{"b", Lane::kLoop, after(1)}, &Notes::b},
    };
    Notes notes;
    REQUIRE(run(notes, kSteps, 3));
    CHECK(notes.log.starts_with("a each"));
    CHECK(notes.log.ends_with(" b "));
    for (const char* each : {"each1 ", "each2 ", "each3 "}) CHECK(notes.log.find(each) != std::string::npos);
    Notes none;
    REQUIRE(run(none, kSteps, 0));
    CHECK(none.log == "a b ");
}

TEST_CASE("lanes: a failure ends every lane, and is what the run gives") {
    static constexpr Step<Notes> kSteps[] = {
        {{"fails", Lane::kBootVcpu}, &Notes::fails},
        {{"each", Lane::kOtherVcpus, after(0)}, &Notes::each},
        {{"b", Lane::kLoop, after(0)}, &Notes::b},
    };
    Notes notes;
    const auto outcome = run(notes, kSteps, 2);
    REQUIRE_FALSE(outcome);
    CHECK(outcome.error().message == "no such luck");
    CHECK(notes.log.find("b ") == std::string::npos);
}

TEST_CASE("boot: each step waits only for steps that come before it in the table") {
    const auto plan = Boot::plan();
    REQUIRE(plan.size() <= 32);
    for (size_t i = 0; i < plan.size(); ++i) {
        INFO(plan[i].name);
        CHECK((plan[i].after >> i) == 0);
    }
}

TEST_CASE("boot: once the boot vCPU has its filter, its thread builds nothing any more") {
    const auto plan = Boot::plan();
    size_t filter = 0;
    while (std::string_view(plan[filter].name) != "install the boot vCPU's filter") REQUIRE(++filter < plan.size());
    uint32_t before = plan[filter].after;  // and what comes before those
    for (size_t i = filter; i-- > 0;)
        if (before & after(i)) before |= plan[i].after;
    for (size_t i = 0; i < plan.size(); ++i) {
        INFO(plan[i].name);
        if (plan[i].lane == Lane::kEither) CHECK((before & after(i)));
        if (plan[i].lane == Lane::kBootVcpu && i > filter) CHECK(std::string_view(plan[i].name) == "enter the guest");
    }
}
