// SPDX-License-Identifier: Apache-2.0
#include "virtio/vsock/outbox.h"

#include <algorithm>
#include <cstring>

#include "virtio/cursor.h"

namespace wisp::virtio {

namespace {

constexpr size_t kBytesAtOnce = 1 << 20;

}  // namespace

VsockOutbox::Put VsockOutbox::put(Chain& chain, std::span<GuestSlice> data, uint32_t grant) {
    VsockParked* parked = nullptr;
    if (buffer_.empty() && data.size() <= limits::kVsockParkedSegments)
        parked = pool_.take(static_cast<unsigned>(data.size()) + 1);
    if (!parked) {
        // Parked packets come before the buffer's bytes, so this keeps the order.
        Reader reader(data);
        for (const std::span<std::byte> room : buffer_.grow(reader.remaining(), grant)) reader.read_some(room);
        return Put::kCopied;
    }
    std::copy(data.begin(), data.end(), parked->segments.begin());
    parked->data = std::span(parked->segments).first(data.size());
    parked->chain = std::move(chain);
    parked->next = nullptr;
    (first_ ? last_->next : first_) = parked;
    last_ = parked;
    return Put::kParked;
}

std::span<iovec> VsockOutbox::next_parts(std::span<iovec> room, size_t& size) const {
    size_t count = 0;
    size = 0;
    if (!first_) {
        for (const iovec& part : buffer_.parts()) {
            if (part.iov_len == 0) continue;
            room[count++] = part;
            size += part.iov_len;
        }
    }
    for (const VsockParked* parked = first_; parked && size < kBytesAtOnce; parked = parked->next) {
        if (count + parked->data.size() > room.size()) break;
        for (const GuestSlice& slice : parked->data) {
            room[count++] = slice.as_iovec();
            size += slice.size();
        }
    }
    return room.first(count);
}

void VsockOutbox::consume(size_t size, Queue& tx) {
    if (!first_) return buffer_.consume(size);
    while (size > 0) {
        VsockParked& parked = *first_;
        const uint64_t waiting = total_size(parked.data);
        if (size < waiting) {
            SliceCursor cursor(parked.data);
            cursor.skip(size);
            parked.data = cursor.rest();
            return;
        }
        size -= waiting;
        first_ = parked.next;
        tx.push(std::move(parked.chain), 0);
        pool_.give_back(parked);
    }
}

void VsockOutbox::unpark(uint32_t grant, Queue& tx) {
    if (!first_) return;
    const VsockBuffer behind = std::exchange(buffer_, {});
    while (VsockParked* parked = first_) {
        Reader reader(parked->data);
        for (const std::span<std::byte> room : buffer_.grow(reader.remaining(), grant)) reader.read_some(room);
        first_ = parked->next;
        tx.push(std::move(parked->chain), 0);
        pool_.give_back(*parked);
    }
    for (const iovec& part : behind.parts()) {
        const auto* from = static_cast<const std::byte*>(part.iov_base);
        for (const std::span<std::byte> room : buffer_.grow(part.iov_len, grant)) {
            if (!room.empty()) memcpy(room.data(), from, room.size());
            from += room.size();
        }
    }
}

void VsockOutbox::clear(Queue* tx) {
    while (VsockParked* parked = first_) {
        first_ = parked->next;
        if (tx)
            tx->push(std::move(parked->chain), 0);
        else
            parked->chain.abandon();
        pool_.give_back(*parked);
    }
    buffer_.clear();
}

}  // namespace wisp::virtio
