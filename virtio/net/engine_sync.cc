// SPDX-License-Identifier: Apache-2.0
//
// Frames by one system call each.
#include <cerrno>

#include "virtio/net/engine.h"

namespace wisp::virtio {

namespace {

int64_t outcome(ssize_t result) {
    return result < 0 ? -errno : result;
}

class SyncFrameIo final : public FrameIo {
public:
    explicit SyncFrameIo(Tap tap) : tap_(std::move(tap)) {}

    void send(std::span<FrameTransfer> frames) override {
        for (FrameTransfer& frame : frames)
            frame.result = outcome(writev(fd(), frame.parts, static_cast<int>(frame.part_count)));
    }

    void receive(std::span<FrameTransfer> frames) override {
        bool more = true;
        for (FrameTransfer& frame : frames) {
            frame.result = more ? outcome(readv(fd(), frame.parts, static_cast<int>(frame.part_count))) : -EAGAIN;
            more = frame.result > 0;
        }
    }

    void close() override { tap_ = {}; }
    int fd() const override { return tap_.fd(); }
    bool has_uso() const override { return tap_.has_uso(); }
    Result<void> set_offloads(unsigned offloads) override { return tap_.set_offloads(offloads); }

private:
    Tap tap_;
};

}  // namespace

std::unique_ptr<FrameIo> create_sync_frame_io(Tap tap) {
    return std::make_unique<SyncFrameIo>(std::move(tap));
}

}  // namespace wisp::virtio
