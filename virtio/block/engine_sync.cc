// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

#include "base/check.h"
#include "virtio/block/engine.h"

namespace wisp::virtio {

int fallocate_mode(BlockTransfer::Kind kind) {
    switch (kind) {
        case BlockTransfer::Kind::kDiscard:
        case BlockTransfer::Kind::kWriteZeroesUnmap:
            return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        case BlockTransfer::Kind::kWriteZeroes:
            return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
        default:
            CHECK(false);
    }
    __builtin_unreachable();
}

int64_t run_transfer(const BlockFile& file, const BlockTransfer& transfer) {
    const int fd = file_of(file, transfer);
    const auto offset = static_cast<off_t>(transfer.offset);
    const auto count = static_cast<int>(transfer.slices.size());
    int64_t result = -1;
    do {
        switch (transfer.kind) {
            case BlockTransfer::Kind::kRead:
                result = preadv(fd, as_iovecs(transfer.slices), count, offset);
                break;
            case BlockTransfer::Kind::kWrite:
                result = pwritev(fd, as_iovecs(transfer.slices), count, offset);
                break;
            case BlockTransfer::Kind::kFlush:
                result = fdatasync(fd);
                break;
            case BlockTransfer::Kind::kDiscard:
            case BlockTransfer::Kind::kWriteZeroes:
            case BlockTransfer::Kind::kWriteZeroesUnmap:
                result = fallocate(fd, fallocate_mode(transfer.kind), offset, static_cast<off_t>(transfer.length));
                break;
            case BlockTransfer::Kind::kDeviceDiscard: {
                uint64_t range[2] = {transfer.offset, transfer.length};
                result = ioctl(fd, BLKDISCARD, range);
                break;
            }
        }
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : result;
}

namespace {

class SyncBlockIo final : public BlockIo {
public:
    explicit SyncBlockIo(BlockIoListener& listener) : listener_(listener) {}

    void queue(BlockTransfer& transfer) override { queued_.push(transfer); }

    void submit() override {
        if (submitting_) return;
        submitting_ = true;
        while (!queued_.empty()) {
            while (BlockTransfer* transfer = queued_.pop())
                listener_.on_transfer_done(*transfer, run_transfer(*file_, *transfer));
            listener_.on_batch_done();
        }
        submitting_ = false;
    }

    bool poll() override { return false; }
    bool arm() override { return false; }

    Result<void> set_file(const BlockFile& file) override {
        CHECK(queued_.empty());
        file_ = &file;
        return {};
    }

private:
    BlockIoListener& listener_;
    TransferList queued_;
    const BlockFile* file_ = nullptr;
    bool submitting_ = false;
};

}  // namespace

std::unique_ptr<BlockIo> create_sync_block_io(BlockIoListener& listener) {
    return std::make_unique<SyncBlockIo>(listener);
}

}  // namespace wisp::virtio
