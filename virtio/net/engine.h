// SPDX-License-Identifier: Apache-2.0
//
// FrameIo: how frames get to a tap and from it. Two of them: batches on an io_uring, and plain system calls. Both do
// all of a batch within the call: nothing is ever in flight afterwards.
//
// Frames go between the tap and guest memory directly; the kernel does the access, so a guest that changes its memory
// meanwhile harms only itself.
//
// Threads: the loop's.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "virtio/net/tap.h"

namespace wisp::virtio {

/// One frame, virtio header in front.
struct FrameTransfer {
    const iovec* parts = nullptr;
    unsigned part_count = 0;  ///< up to IOV_MAX
    int64_t result = 0;       ///< bytes, or a negative errno: EAGAIN if the tap takes or has nothing now
};

class FrameIo {
public:
    virtual ~FrameIo() = default;

    /// Sends frames in their order. One that the tap does not take now does not keep it from taking later ones.
    virtual void send(std::span<FrameTransfer> frames) = 0;
    /// Receives a frame into each, in their order, until there is none. A longer frame than fits is cut.
    virtual void receive(std::span<FrameTransfer> frames) = 0;

    /// Closes the tap at once; nothing else is called afterwards.
    virtual void close() = 0;
    /// The descriptor that becomes readable when frames come, and writable when the tap has room after EAGAIN.
    virtual int fd() const = 0;
    /// Whether the tap does UDP segmentation.
    virtual bool has_uso() const = 0;
    /// TUN_F_*: the checksums and segmentation that received frames may leave to the guest.
    virtual Result<void> set_offloads(unsigned offloads) = 0;
};

/// An error: the host forbids io_uring, or its taps cannot be used on it without waiting. `tap` is taken only if it
/// works.
Result<std::unique_ptr<FrameIo>> create_uring_frame_io(Tap& tap);
std::unique_ptr<FrameIo> create_sync_frame_io(Tap tap);

}  // namespace wisp::virtio
