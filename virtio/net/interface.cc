// SPDX-License-Identifier: Apache-2.0
#include "virtio/net/interface.h"

#include <sys/epoll.h>

#include "base/log.h"

namespace wisp::virtio {

void TapWatch::start(int fd) {
    idle_events_ = 0;
    fd_ = fd;
    if (watch_.active()) return;
    auto watch = loop_.watch(fd, EPOLLIN | EPOLLOUT, watcher_);
    if (watch) {
        watch_ = *std::move(watch);
        return;
    }
    LOG_LIMITED("a tap is polled until the host lets us watch it: %s", watch.error().message.c_str());
    look_again();
}

void TapWatch::look_again() {
    if (!retry_.armed()) retry_.arm(limits::kNetWatchRetry_ms * 1'000'000);
}

void TapWatch::stop() {
    watch_.reset();
    retry_.cancel();
}

void TapWatch::retry() {
    start(fd_);
    watcher_.on_ready(EPOLLIN | EPOLLOUT);  // the tap may be ready for anything
}

ResponderPort::ResponderPort(Loop& loop, std::unique_ptr<FrameResponder> responder, std::function<void()> on_due)
    : responder_(std::move(responder)), timer_(loop, [this, on_due = std::move(on_due)] {
          due_ = true;
          on_due();
      }) {}

void ResponderPort::receive(std::span<const std::byte> frame) {
    const uint64_t now_ns = monotonic_ns();
    responder_->receive(frame, now_ns);
    set_timer(now_ns);
}

size_t ResponderPort::transmit(std::span<std::byte> room) {
    const uint64_t now_ns = monotonic_ns();
    const size_t size = responder_->transmit(room, now_ns);
    set_timer(now_ns);
    if (size == 0) due_ = false;
    return size;
}

void ResponderPort::stop() {
    timer_.cancel();
    due_ = false;
}

void ResponderPort::set_timer(uint64_t now_ns) {
    const uint64_t deadline_ns = responder_->deadline_ns();
    due_ = deadline_ns <= now_ns;
    if (due_ || deadline_ns == UINT64_MAX)
        timer_.cancel();
    else
        timer_.arm(deadline_ns - now_ns);
}

}  // namespace wisp::virtio
