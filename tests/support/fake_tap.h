// SPDX-License-Identifier: Apache-2.0
//
// A tap for tests: frames are strings with their virtio header in front. It is full, or fails, when the test says so.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "virtio/net/engine.h"

namespace wisp::test {

class FakeTap final : public virtio::FrameIo {
public:
    void send(std::span<virtio::FrameTransfer> frames) override;
    void receive(std::span<virtio::FrameTransfer> frames) override;
    void close() override { event_.reset(); }
    int fd() const override { return event_.get(); }
    bool has_uso() const override { return uso; }
    Result<void> set_offloads(unsigned wanted) override;

    /// A frame from the host's side; the device is told.
    void push(std::string frame);
    /// The tap is ready for both directions: the device is told.
    void tell() { signal_eventfd(event_.get()); }

    std::deque<std::string> waiting;  ///< for the guest
    std::vector<std::string> sent;    ///< by the guest
    unsigned offloads = 0;
    bool uso = false;
    bool refuses_offloads = false;
    size_t room = SIZE_MAX;  ///< frames that it still takes; then EAGAIN
    int send_error = 0;      ///< errno of every frame that is sent
    int receive_error = 0;   ///< of every frame that is received
    unsigned system_calls = 0;
    /// Decides about each frame, if set: 0, or an errno.
    std::function<int()> send_fault, receive_fault;

private:
    OwnedFd event_ = *create_eventfd();
};

}  // namespace wisp::test
