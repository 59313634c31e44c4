// SPDX-License-Identifier: Apache-2.0
//
// A drive's requests, from pop to push, and the pool that they live in: none is allocated while the VM runs. Loop
// thread.
#pragma once

#include <array>
#include <memory>
#include <new>

#include <linux/virtio_blk.h>

#include "base/limits.h"
#include "base/mapping.h"
#include "virtio/block/device.h"

namespace wisp::virtio {

// Data segments, and one for each byte of the header and the status: a chain may spread them so.
inline constexpr unsigned kBlockChainSegments = limits::kBlockSegments + sizeof(virtio_blk_outhdr) + 1;

struct Block::Request : BlockTransfer {
    Chain chain;
    unsigned queue = 0;
    WritableSlice status;
    uint64_t sequence = 0;  // order of arrival
    uint64_t to_fill = 0;   // bytes of the chain's writable segments before the status byte
    uint64_t filled = 0;    // of these, from the front
    unsigned retries = 0;
    uint64_t started_ns = 0;          // CLOCK_MONOTONIC
    uint64_t data_size = 0;           // bytes that a read or write is for
    unsigned writes_before = 0;       // of a flush: earlier writes that are not complete
    Request* next_request = nullptr;  // in one of the pool's lists
    std::array<GuestSlice, kBlockChainSegments> segments;
};

class Block::Pool {
public:
    static Result<std::unique_ptr<Pool>> create() {
        std::unique_ptr<Pool> pool(new Pool);
        pool->memory_ = TRY(
            Mapping::anonymous(limits::kBlockInFlight * sizeof(Request), limits::kPageSize, 0, "a drive's requests"));
        return pool;
    }
    ~Pool() {
        for (unsigned i = 0; i < made_; ++i) {
            at(i)->chain.abandon();
            at(i)->~Request();
        }
    }
    Request* take() {
        if (empty()) return nullptr;
        ++in_use_;
        if (free_) return std::exchange(free_, free_->next_request);
        return new (at(made_++)) Request;
    }
    void give_back(Request& request) {
        request.next_request = std::exchange(free_, &request);
        --in_use_;
    }
    unsigned in_use() const { return in_use_; }
    bool empty() const { return !free_ && made_ == limits::kBlockInFlight; }

    uint64_t next_sequence = 0;
    unsigned writes = 0;  // requests in use that change data
    Request* waiting_flushes = nullptr;
    Request* waiting_retries = nullptr;  // that the host lacked memory for

private:
    Request* at(unsigned index) const { return static_cast<Request*>(static_cast<void*>(memory_.data())) + index; }

    // Requests are made when they are first taken, and used again before a new one is: a shallow queue touches few
    // pages.
    Mapping memory_;
    unsigned made_ = 0;
    Request* free_ = nullptr;
    unsigned in_use_ = 0;
};

}  // namespace wisp::virtio
