// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_block_io.h"

#include <algorithm>
#include <cerrno>

#include "base/check.h"
#include "virtio/block/request.h"
#include "virtio/cursor.h"

namespace wisp::test {

using virtio::BlockTransfer;

void FakeBlockIo::submit() {
    started_.insert(started_.end(), queued_.begin(), queued_.end());
    queued_.clear();
}

Result<void> FakeBlockIo::set_file(const virtio::BlockFile& file) {
    CHECK(in_flight() == 0);
    file_ = file.device_id;
    disks_[file_].resize(file.sectors * virtio::kSectorSize);
    return {};
}

unsigned FakeBlockIo::step(unsigned most) {
    CHECK(!stepping_);
    stepping_ = true;
    unsigned done = 0;
    while (done < most && !started_.empty()) {
        const size_t chosen = random_() % started_.size();
        BlockTransfer& transfer = *started_[chosen];
        const int64_t result = perform(transfer);
        started_.erase(started_.begin() + static_cast<long>(chosen));
        listener_.on_transfer_done(transfer, result);
        ++done;
        if (chance(30)) {
            listener_.on_batch_done();
            submit();
        }
    }
    if (done > 0) listener_.on_batch_done();
    submit();
    stepping_ = false;
    return done;
}

int64_t FakeBlockIo::perform(const BlockTransfer& transfer) {
    if (chance(faults_.eagain)) return -EAGAIN;
    if (chance(faults_.eio)) return -EIO;
    auto& content = disk();
    if (transfer.kind == BlockTransfer::Kind::kFlush) {
        if (on_flush) on_flush();
        return 0;
    }
    CHECK(transfer.offset + transfer.length <= content.size());
    uint64_t length = transfer.length;
    std::byte* at = content.data() + transfer.offset;
    if (!transfer.has_data()) {
        if (chance(faults_.unsupported) && transfer.kind != BlockTransfer::Kind::kWriteZeroesUnmap) return -EOPNOTSUPP;
        std::fill(at, at + length, std::byte{0});
        return 0;
    }
    CHECK(virtio::total_size(transfer.slices) == length);
    if (transfer.kind == BlockTransfer::Kind::kWrite && chance(faults_.enospc)) return -ENOSPC;
    if (chance(faults_.cut_short)) length = 1 + random_() % length;
    std::vector<GuestSlice> slices(transfer.slices.begin(), transfer.slices.end());
    if (transfer.kind == BlockTransfer::Kind::kRead)
        virtio::Writer(as_writable(slices)).write_some({at, length});
    else
        virtio::Reader(slices).read_some({at, length});
    return static_cast<int64_t>(length);
}

}  // namespace wisp::test
