// SPDX-License-Identifier: Apache-2.0
#include "virtio/device_queues.h"

#include "base/check.h"

namespace wisp::virtio {

void DeviceQueues::activate(const Activation& activation) {
    CHECK(state_ == State::kInactive && activation.queues.size() <= shares_.size());
    activation_.emplace(activation);
    shares_ = {};  // notifications are on in a new queue
    state_ = State::kActive;
    polling_ = loop_.poll(source_);
}

void DeviceQueues::deactivate() {
    state_ = State::kInactive;
    polling_.reset();
    activation_.reset();
}

void DeviceQueues::set_broken(const char* reason) {
    if (!active()) return;
    publish();
    state_ = State::kBroken;
    interrupt().signal_needs_reset(reason);
}

bool DeviceQueues::begin_batch(unsigned index) {
    Share& share = shares_[index];
    const bool first = std::exchange(share.turn, loop_.turn_number()) != loop_.turn_number();
    if (!first && !loop_.budget().left()) return false;
    share.batch_left = limits::kBatchBytes;
    return true;
}

void DeviceQueues::publish() {
    bool wanted = false;
    for (Queue& queue : activation_->queues) wanted |= queue.publish();
    if (wanted) interrupt().signal_used();
}

}  // namespace wisp::virtio
