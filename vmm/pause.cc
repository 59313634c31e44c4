// SPDX-License-Identifier: Apache-2.0
#include "vmm/pause.h"

#include <algorithm>

#include "base/check.h"

namespace wisp {

void Pause::acquire(Hold hold, Done done) {
    CHECK(!is_held_by(hold));
    holds_ |= bit(hold);
    if (state_ == State::kPaused) return done({});
    waiters_.push_back({hold, std::move(done)});
    if (state_ == State::kPausing) return;
    state_ = State::kPausing;
    devices_asked_ = false;
    deadline_.arm(deadline_ns_);
    parts_.stop_vcpus();
    on_progress();
}

void Pause::release(Hold hold) {
    if (!is_held_by(hold)) return;
    holds_ &= static_cast<uint8_t>(~bit(hold));
    std::vector<Waiter> given_up;
    for (Waiter& waiter : waiters_)
        if (waiter.hold == hold) given_up.push_back(std::move(waiter));
    std::erase_if(waiters_, [&](const Waiter& waiter) { return waiter.hold == hold; });
    if (holds_ == 0) go_on();
    answer(std::move(given_up), fail("the machine was resumed before it stood still"));
}

void Pause::on_progress() {
    if (state_ != State::kPausing || !parts_.vcpus_stopped()) return;
    if (!std::exchange(devices_asked_, true)) parts_.stop_devices();  // a device may call back at once
    if (state_ != State::kPausing || !parts_.devices_stopped()) return;
    state_ = State::kPaused;
    deadline_.cancel();
    answer(std::exchange(waiters_, {}), {});
}

void Pause::go_on() {
    state_ = State::kRunning;
    deadline_.cancel();
    parts_.go_on();
}

void Pause::on_deadline() {
    const Result<void> outcome =
        fail("the machine did not stand still within %lu ms and runs on: %s did not stop",
             static_cast<unsigned long>(deadline_ns_ / 1'000'000), parts_.unfinished().c_str());
    auto waiters = std::exchange(waiters_, {});
    for (const Waiter& waiter : waiters) holds_ &= static_cast<uint8_t>(~bit(waiter.hold));
    CHECK(holds_ == 0);  // a hold without a waiter would be of a machine that is paused
    go_on();
    answer(std::move(waiters), outcome);
}

void Pause::answer(std::vector<Waiter> waiters, const Result<void>& outcome) {
    for (Waiter& waiter : waiters) waiter.done(outcome);
}

}  // namespace wisp
