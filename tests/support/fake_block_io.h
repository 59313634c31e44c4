// SPDX-License-Identifier: Apache-2.0
//
// An I/O engine for tests: files are vectors, and a seed decides when, in which order and with which fault a transfer
// completes. Nothing completes before step().
#pragma once

#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "virtio/block/engine.h"

namespace wisp::test {

class FakeBlockIo final : public virtio::BlockIo {
public:
    /// In how many of 100 completions.
    struct Faults {
        unsigned eio = 0, enospc = 0, eagain = 0, cut_short = 0, unsupported = 0;
    };

    FakeBlockIo(virtio::BlockIoListener& listener, uint32_t seed, Faults faults)
        : listener_(listener), random_(seed), faults_(faults) {}

    void queue(virtio::BlockTransfer& transfer) override { queued_.push_back(&transfer); }
    void submit() override;
    bool pending() override { return false; }
    bool poll() override { return false; }
    bool arm() override { return false; }
    void wait(int64_t) override { step(1); }
    Result<void> set_file(const virtio::BlockFile& file) override;

    /// Completes up to `most` transfers, any of them. Returns how many.
    unsigned step(unsigned most);
    size_t in_flight() const { return queued_.size() + started_.size(); }
    const std::vector<virtio::BlockTransfer*>& started() const { return started_; }
    /// Content of the present file.
    std::vector<std::byte>& disk() { return disks_[file_]; }

    /// Is told of each flush that takes effect.
    std::function<void()> on_flush;

private:
    int64_t perform(const virtio::BlockTransfer& transfer);
    bool chance(unsigned percent) { return random_() % 100 < percent; }

    virtio::BlockIoListener& listener_;
    std::mt19937 random_;
    Faults faults_;
    std::string file_;
    std::map<std::string, std::vector<std::byte>> disks_;
    std::vector<virtio::BlockTransfer*> queued_, started_;
    bool stepping_ = false;
};

}  // namespace wisp::test
