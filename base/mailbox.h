// SPDX-License-Identifier: Apache-2.0
//
// Mailbox: bounded messages from one thread to another thread's loop. A message is a function that the loop runs.
//
// Threads: send() from any thread that may allocate; the messages run on the loop's thread. A vCPU thread uses a
// Doorbell instead.
#pragma once

#include <array>
#include <functional>
#include <mutex>

#include "base/loop.h"

namespace wisp {

class Mailbox {
public:
    using Message = std::move_only_function<void()>;

    /// On the loop's thread, or before the loop runs.
    explicit Mailbox(Loop& loop) : bell_(loop, [this] { run_messages(); }) {}

    /// The loop runs `message` in the order of sending. False: limits::kMailboxMessages wait already, and this one is
    /// dropped.
    [[nodiscard]] bool send(Message message) {
        {
            const std::lock_guard lock(mutex_);
            if (count_ == messages_.size()) return false;
            messages_[(first_ + count_++) % messages_.size()] = std::move(message);
        }
        bell_.ring();
        return true;
    }

private:
    void run_messages() {
        for (size_t left = messages_.size(); left > 0; --left) {
            Message message;
            {
                const std::lock_guard lock(mutex_);
                if (count_ == 0) return;
                message = std::move(messages_[first_]);
                first_ = (first_ + 1) % messages_.size();
                --count_;
            }
            message();
        }
        bell_.ring();  // there may be more: the loop's other work has its turn first
    }

    std::mutex mutex_;  // guards what follows
    std::array<Message, limits::kMailboxMessages> messages_;
    size_t first_ = 0, count_ = 0;
    Doorbell bell_;
};

}  // namespace wisp
