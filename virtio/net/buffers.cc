// SPDX-License-Identifier: Apache-2.0
#include "virtio/net/buffers.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "virtio/cursor.h"
#include "virtio/net/header.h"

namespace wisp::virtio {

void ReceiveBuffers::reserve() {
    buffers_.reserve(limits::kMaxQueueSize);
    slices_.resize(limits::kNetSlices);
}

uint64_t ReceiveBuffers::capacity(size_t first) const {
    uint64_t sum = 0;
    for (size_t i = first; i < buffers_.size(); ++i) sum += buffers_[i].size;
    return sum;
}

std::span<WritableSlice> ReceiveBuffers::slices(size_t index) {
    return as_writable(std::span(slices_).subspan(buffers_[index].first_slice, buffers_[index].slice_count));
}

ReceiveBuffers::Gathered ReceiveBuffers::gather(size_t first, uint64_t wanted) {
    uint64_t have = capacity(first);
    // Bounded, whatever the driver adds meanwhile.
    for (unsigned popped = 0; have < wanted && popped < limits::kMaxQueueSize; ++popped) {
        if (buffers_.size() == limits::kMaxQueueSize || !make_room()) return Gathered::kFull;
        Chain chain;
        if (queue().pop(chain, std::span(slices_).subspan(slices_used_)) != Queue::Pop::kChain)
            return Gathered::kTooFew;
        if (const char* fault = take(chain)) {
            LOG_LIMITED("%s: receive buffer refused: %s", interface_.name.c_str(), fault);
            ++interface_.counters.rx_fails;
            interface_.queues.charge(queue_, 0);
            behind_last_used_ = ++next_position_;
            queue().push(std::move(chain), 0);
        } else {
            have += buffers_.back().size;
        }
    }
    return have >= wanted ? Gathered::kEnough : Gathered::kTooFew;
}

// Its slices lie behind those in use already.
const char* ReceiveBuffers::take(Chain& chain) {
    if (chain.fault()) return chain.fault();
    if (!chain.readable().empty()) return "readable descriptors";
    const uint64_t size = total_size(chain.writable());
    if (size < sizeof(NetHeader)) return "too short for the header";
    const auto count = static_cast<uint16_t>(chain.writable().size());
    buffers_.push_back({std::move(chain), static_cast<uint32_t>(std::min<uint64_t>(size, UINT32_MAX)),
                        static_cast<uint16_t>(slices_used_), count, next_position_++});
    slices_used_ += count;
    return nullptr;
}

// Room for the slices of any legal chain.
bool ReceiveBuffers::make_room() {
    if (slices_.size() - slices_used_ >= limits::kMaxQueueSize) return true;
    slices_used_ = 0;
    for (Buffer& buffer : buffers_) {
        std::copy_n(slices_.begin() + buffer.first_slice, buffer.slice_count, slices_.begin() + slices_used_);
        buffer.first_slice = static_cast<uint16_t>(slices_used_);
        slices_used_ += buffer.slice_count;
    }
    return slices_.size() - slices_used_ >= limits::kMaxQueueSize;
}

void ReceiveBuffers::use(size_t index, uint32_t written) {
    const auto behind = static_cast<uint16_t>(buffers_[index].position + 1);
    if (static_cast<int16_t>(behind - behind_last_used_) > 0) behind_last_used_ = behind;
    queue().push(std::move(buffers_[index].chain), written);
}

void ReceiveBuffers::sweep() {
    std::erase_if(buffers_, [](const Buffer& buffer) { return !buffer.chain.owned(); });
    if (buffers_.empty()) slices_used_ = 0;
}

void ReceiveBuffers::give_back() {
    for (; !buffers_.empty(); buffers_.pop_back()) {
        Buffer& last = buffers_.back();
        if (static_cast<int16_t>(last.position - behind_last_used_) < 0) break;
        queue().unpop(std::move(last.chain));
        --next_position_;
    }
    for (Buffer& buffer : buffers_) queue().push(std::move(buffer.chain), 0);
    sweep();
}

void ReceiveBuffers::abandon() {
    for (Buffer& buffer : buffers_) buffer.chain.abandon();
    sweep();
}

}  // namespace wisp::virtio
