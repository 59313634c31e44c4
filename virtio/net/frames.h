// SPDX-License-Identifier: Apache-2.0
//
// A network device's frames in hand, in each direction. Loop thread.
#pragma once

#include <array>
#include <vector>

#include "virtio/net/device.h"

namespace wisp::virtio {

/// A frame of the guest, from pop to push. Its first part is ours: the header that was checked and, where a responder
/// looks at frames, the start that it saw. The others are guest memory.
struct Net::SentFrame {
    Chain chain;
    FrameTransfer transfer;
    uint64_t size = 0;  // without the virtio header
    struct Head {
        NetHeader header;
        std::array<std::byte, FrameResponder::kStart> start;
    } head;
};

struct Net::Sender {
    Sender() : slices(limits::kNetSlices) {}

    std::array<SentFrame, limits::kNetSendBatch> frames;
    unsigned count = 0;  // those in hand; one whose chain is not owned is done with
    std::vector<GuestSlice> slices;
    size_t slices_used = 0;
    std::vector<std::byte> copy;  // of a frame for the responder
    bool blocked = false;         // the tap takes no more: frames in hand wait for it
};

/// Where one frame of a batch goes: buffers of the guest, and behind them memory of ours for what they do not hold. A
/// frame that cannot be delivered yet is kept there as a whole.
struct Net::Slot {
    static constexpr size_t kRoom = (limits::kNetMaxFrame + limits::kPageSize) & ~(limits::kPageSize - 1);

    std::byte* memory = nullptr;
    size_t first = 0, count = 0;  // buffers set aside
    uint64_t capacity = 0;        // their bytes
    uint64_t kept = 0;            // bytes of the frame that is kept; 0: none
    bool paid = false;            // it has passed the rate limiter
};

struct Net::Receiver {
    static constexpr size_t kAnswer = limits::kNetReceiveBatch;  // the slot of the responder's frames

    ReceiveBuffers buffers;
    Mapping memory;
    std::array<Slot, limits::kNetReceiveBatch + 1> slots;
    std::array<FrameTransfer, limits::kNetReceiveBatch> transfers;
    std::vector<GuestSlice> parts;
    size_t spare = 0;                     // of a batch that is being finished: buffers from here on are not set aside
    size_t kept_begin = 0, kept_end = 0;  // slots with kept frames, in their order

    // What the next batch is planned with.
    unsigned batch = 2;     // frames
    uint64_t expected = 1;  // bytes of each
    bool merge = false;     // a frame may span buffers (MRG_RXBUF)

    bool patience_over = false;

    bool keeps() const { return kept_begin != kept_end; }
};

}  // namespace wisp::virtio
