// SPDX-License-Identifier: Apache-2.0
#include "vmm/build/lanes.h"

#include <sched.h>

#include <chrono>

#include "base/check.h"
#include "base/limits.h"
#include "base/loop.h"

namespace wisp::build {

namespace {

uint32_t bit(size_t step) {
    return 1u << step;
}

bool on_boot_cpu() {
    return sched_getcpu() == 0;
}

}  // namespace

Lanes::Lanes(std::span<const StepPlan> plan, Cpus cpus)
    : plan_(plan), cpus_(cpus), runner_(plan.size()), runs_left_(plan.size()) {
    CHECK(plan.size() <= 32);
}

void Lanes::set_other_vcpus(unsigned count) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < plan_.size(); ++i) {
        if (plan_[i].lane != Lane::kOtherVcpus) continue;
        runs_left_[i] = count;
        if (count == 0) done_bits_.fetch_or(bit(i), std::memory_order_release);
    }
    publish();
}

void Lanes::enter() {
    const std::lock_guard lock(mutex_);
    ++lanes_inside_;
}

// Notified under the mutex: when wait_until_left() returns, this thread has let the object go.
void Lanes::leave() {
    const std::lock_guard lock(mutex_);
    --lanes_inside_;
    publish();
}

Result<void> Lanes::wait_until_left() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return lanes_inside_ == 0; });
    if (failure_) return std::unexpected(*failure_);
    return {};
}

void Lanes::publish() {
    version_.fetch_add(1, std::memory_order_release);
    changed_.notify_all();
}

void Lanes::give(unsigned step) {
    finish(step, {});
}

void Lanes::finish(unsigned step, Result<void> outcome) {
    const std::lock_guard lock(mutex_);
    if (!outcome && !failure_) failure_ = std::move(outcome).error();
    const bool more_runs = plan_[step].lane == Lane::kOtherVcpus && runs_left_[step] > 1;
    if (plan_[step].lane == Lane::kOtherVcpus) --runs_left_[step];
    if (!more_runs) done_bits_.fetch_or(bit(step), std::memory_order_release);
    publish();
}

// What a step's hint says of this lane now.
bool Lanes::is_welcome(const StepPlan& step, bool waited) const {
    switch (step.hint) {
        case Hint::kFiller:
            return waited;
        case Hint::kAwayFromBootCpu:
            // The other lane takes it soon, unless it waits as well.
            return cpus_ == Cpus::kShared || !on_boot_cpu() || idle_lanes_ == 2;
        default:
            return true;
    }
}

// A lane's own steps come first, because no other lane can run them. Then those of either lane, and at last what waits
// for the other lane for too long.
std::optional<unsigned> Lanes::pick(Lane lane, bool waited) const {
    const uint32_t done = done_bits_.load(std::memory_order_relaxed);
    const auto first = [&](auto may_run) -> std::optional<unsigned> {
        for (unsigned i = 0; i < plan_.size(); ++i)
            if (!(begun_ & bit(i)) && (plan_[i].after & ~done) == 0 && may_run(plan_[i])) return i;
        return std::nullopt;
    };
    const auto is_filler = [](const StepPlan& step) { return step.hint == Hint::kFiller; };
    if (auto own = first([&](const StepPlan& step) { return step.lane == lane && !is_filler(step); })) return own;
    if (auto either =
            first([&](const StepPlan& step) { return step.lane == Lane::kEither && is_welcome(step, waited); }))
        return either;
    if (!waited) return std::nullopt;
    if (lane == Lane::kLoop)
        if (auto other = first([](const StepPlan& step) { return step.hint == Hint::kTakeOver; })) return other;
    return first([&](const StepPlan& step) { return step.lane == lane && is_filler(step); });
}

// A step that only the other lane runs is no reason to stay.
bool Lanes::has_more(Lane lane) const {
    for (size_t i = 0; i < plan_.size(); ++i) {
        const StepPlan& step = plan_[i];
        if ((begun_ & bit(i)) || step.hint == Hint::kFiller) continue;
        if (step.lane == lane || step.lane == Lane::kEither) return true;
    }
    return false;
}

// Whether a longer wait gives the lane something to do.
bool Lanes::time_helps(Lane lane) const {
    for (size_t i = 0; i < plan_.size(); ++i) {
        const StepPlan& step = plan_[i];
        if (begun_ & bit(i)) continue;
        if (step.hint == Hint::kFiller && step.lane == lane) return true;
        if (step.hint == Hint::kTakeOver && lane == Lane::kLoop) return true;
    }
    return false;
}

bool Lanes::must_block(Lane lane) const {
    if (cpus_ == Cpus::kShared) return true;
    const uint32_t running = begun_ & ~done_bits_.load(std::memory_order_relaxed);
    for (size_t i = 0; i < plan_.size(); ++i)
        if ((running & bit(i)) && plan_[i].hint == Hint::kGracePeriod && runner_[i] != lane) return true;
    return false;
}

std::optional<unsigned> Lanes::next(Lane lane, unsigned steps_run) {
    if (lane == Lane::kOtherVcpus) return next_of_other_vcpu(steps_run);
    const uint64_t start_ns = monotonic_ns();
    std::unique_lock lock(mutex_);
    bool idle = false;
    for (;;) {
        const uint64_t waited_ns = monotonic_ns() - start_ns;
        const bool waited = waited_ns >= limits::kLaneTakeOver_ns;
        const auto picked = failure_ ? std::nullopt : pick(lane, waited);
        if (picked || failure_ || !has_more(lane)) {
            if (idle) --idle_lanes_;
            if (!picked) return std::nullopt;
            begun_ |= bit(*picked);
            runner_[*picked] = lane;
            return picked;
        }
        if (!idle) {
            idle = true;
            if (++idle_lanes_ == 2) publish();  // the other lane may take now what it left to this one
        }
        if (waited_ns < limits::kLaneSpin_ns && !must_block(lane)) {
            const uint32_t seen = version_.load(std::memory_order_relaxed);
            lock.unlock();
            while (version_.load(std::memory_order_acquire) == seen && monotonic_ns() - start_ns < limits::kLaneSpin_ns)
                __builtin_ia32_pause();
            lock.lock();
        } else if (!waited && time_helps(lane)) {
            changed_.wait_for(lock, std::chrono::nanoseconds(limits::kLaneTakeOver_ns - waited_ns));
        } else {
            changed_.wait(lock);
        }
    }
}

std::optional<unsigned> Lanes::next_of_other_vcpu(unsigned steps_run) {
    std::unique_lock lock(mutex_);
    for (unsigned i = 0; i < plan_.size(); ++i) {
        if (plan_[i].lane != Lane::kOtherVcpus || steps_run-- > 0) continue;
        changed_.wait(lock, [&] { return failure_ || (plan_[i].after & ~done_bits_) == 0; });
        return failure_ ? std::nullopt : std::optional(i);
    }
    return std::nullopt;
}

}  // namespace wisp::build
