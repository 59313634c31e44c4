// SPDX-License-Identifier: Apache-2.0
//
// Lanes: decides which thread runs which step of a recipe, and when. A recipe is a table of named steps (see boot.cc).
// Two threads share it: the loop's, and the one that will be the boot vCPU's. Each further vCPU has a thread that runs
// the steps of its own kind.
//
// A lane takes the first step of its own whose predecessors are done, else the first one that either lane may run: the
// order of the table is the order of execution on each lane. A lane without such a step waits: it spins for a moment
// where the other lane has a CPU of its own, and blocks after that.
//
// Nothing of this lives on in the machine that runs.
//
// Threads: next() and finish() on the lanes' threads, the rest on the loop's.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"

namespace wisp::build {

enum class Lane : uint8_t {
    kLoop,
    kBootVcpu,
    kEither,      ///< in a step: the loop's lane or the boot vCPU's, whichever is free first
    kOtherVcpus,  ///< in a step: once on each other vCPU's thread; done when all have run it
    kGiven,       ///< in a step: no lane runs it; give() says that it is done
};

enum class Hint : uint8_t {
    kNone,
    /// The loop's lane takes the step over when it has waited for limits::kLaneTakeOver_ns.
    kTakeOver,
    /// Keeps one CPU busy in the kernel, so it should not run where grace periods end: Linux handles their ends on the
    /// CPU that it booted on, and a thread that is busy there makes the other lane wait.
    kAwayFromBootCpu,
    /// Waits for a grace period: the other lane blocks instead of spinning, because the kernel may need its CPU.
    kGracePeriod,
    /// Is run only by a lane that has waited for limits::kLaneTakeOver_ns and has nothing else to do.
    kFiller,
};

/// What the scheduler knows of a step.
struct StepPlan {
    const char* name;
    Lane lane;
    uint32_t after = 0;  ///< bit n: step n of the table is done first
    Hint hint = Hint::kNone;
};

/// The bits of `after`.
template <class... Steps>
constexpr uint32_t after(Steps... steps) {
    return (0u | ... | (1u << static_cast<unsigned>(steps)));
}

class Lanes {
public:
    enum class Cpus : uint8_t { kShared, kOneEach };

    /// `plan` stays as it is while this object lives. `cpus`: whether each lane has a CPU of its own.
    Lanes(std::span<const StepPlan> plan, Cpus cpus);

    /// The next step of a lane; waits until there is one. Nothing: the lane has no more steps, or a step has failed.
    /// `steps_run`: how many steps of kOtherVcpus this thread has run; for that lane only.
    std::optional<unsigned> next(Lane lane, unsigned steps_run = 0);
    /// The step that next() gave has ended. A failure ends every lane.
    void finish(unsigned step, Result<void> outcome);
    /// The thread of a lane has had its last step. It does not touch this object any more.
    void leave();

    /// A step of Lane::kGiven is done.
    void give(unsigned step);
    /// How many threads run the steps of kOtherVcpus. Before the first of them enters.
    void set_other_vcpus(unsigned count);
    /// A lane has a thread from now on; wait_until_left() waits for it.
    void enter();

    bool is_done(unsigned step) const { return done_bits_.load(std::memory_order_acquire) & (1u << step); }

    /// Waits until every lane that entered has left. The first failure, if a step has failed.
    Result<void> wait_until_left();

private:
    std::optional<unsigned> pick(Lane lane, bool waited) const;
    bool is_welcome(const StepPlan& step, bool waited) const;
    bool has_more(Lane lane) const;
    bool time_helps(Lane lane) const;
    bool must_block(Lane lane) const;
    std::optional<unsigned> next_of_other_vcpu(unsigned steps_run);
    void publish();

    const std::span<const StepPlan> plan_;
    const Cpus cpus_;

    std::mutex mutex_;  // guards what follows
    std::condition_variable changed_;
    uint32_t begun_ = 0;                   // bits
    std::atomic<uint32_t> done_bits_ = 0;  // written under the mutex
    std::atomic<uint32_t> version_ = 0;    // goes up with each change: what a lane looks at while it spins
    std::vector<Lane> runner_;             // of each step that has begun
    std::vector<unsigned> runs_left_;      // of each step of kOtherVcpus
    unsigned idle_lanes_ = 0;
    unsigned lanes_inside_ = 0;
    std::optional<Error> failure_;
};

/// A step with the function that runs it. Its argument is the vCPU's number for Lane::kOtherVcpus, else 0.
template <class Recipe>
struct Step {
    StepPlan plan;
    Result<void> (Recipe::*run)(unsigned) = nullptr;
};

template <class Recipe, size_t N>
constexpr std::array<StepPlan, N> plans_of(const Step<Recipe> (&steps)[N]) {
    std::array<StepPlan, N> plans{};
    for (size_t i = 0; i < N; ++i) plans[i] = steps[i].plan;
    return plans;
}

/// Runs a lane's steps on the calling thread, until the lane has no more.
template <class Recipe, size_t N>
void run_lane(Lanes& lanes, Lane lane, Recipe& recipe, const Step<Recipe> (&steps)[N], unsigned vcpu = 0) {
    unsigned steps_run = 0;
    while (const auto step = lanes.next(lane, steps_run)) {
        ++steps_run;
        lanes.finish(*step, (recipe.*steps[*step].run)(vcpu));
    }
}

}  // namespace wisp::build
