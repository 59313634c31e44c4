// SPDX-License-Identifier: Apache-2.0
//
// What of a drive outlives the process: what the driver has seen of it, and its limiter. The transport saves the
// queues.
#include <linux/virtio_blk.h>

#include <bit>

#include "base/check.h"
#include "virtio/block/device.h"
#include "virtio/block/pool.h"

namespace wisp::virtio {

namespace {

constexpr RecordType kDisk{"disk", "disk", 1, Need::kRequired};

// All that Block::open() may offer.
constexpr uint64_t kOffers = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_SIZE_MAX | 1ull << VIRTIO_BLK_F_RO |
                             1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_MQ | 1ull << VIRTIO_BLK_F_DISCARD |
                             1ull << VIRTIO_BLK_F_WRITE_ZEROES | 1ull << VIRTIO_BLK_F_BLK_SIZE |
                             1ull << VIRTIO_BLK_F_TOPOLOGY;
constexpr uint32_t kLargestBlock = 64 << 10;

}  // namespace

void Block::save(RecordWriter& writer) const {
    CHECK(pool_->in_use() == 0);
    {
        const auto disk = writer.leaf(kDisk);
        writer.u64(sectors_);
        writer.u64(features_);
        writer.u32(block_size_);
        writer.u16(static_cast<uint16_t>(queue_sizes_.size()));
        writer.boolean(config_.read_only);
        writer.bytes(std::as_bytes(std::span(file_.device_id)));
    }
    const auto limiter = writer.leaf(RateLimiter::kRecord);
    rate_limiter_.save(writer);
}

Result<void> Block::restore(RecordReader& reader) {
    CHECK(!queues_.activated());
    RecordReader disk = TRY(reader.record(kDisk));
    const uint64_t sectors = TRY(disk.u64("sectors"));
    if (sectors > file_.sectors)
        return disk.refuse("sectors", "the driver knows %lu, and %s has %lu", sectors, config_.path.c_str(),
                           file_.sectors);
    const uint64_t features = TRY(disk.u64("features"));
    if (features & ~kOffers) return disk.refuse("features", "0x%lx has bits that are not known", features);
    const uint32_t block_size = TRY(disk.u32("block_size", kSectorSize, kLargestBlock));
    if (!std::has_single_bit(block_size)) return disk.refuse("block_size", "%u is no power of two", block_size);
    const auto queues = static_cast<uint16_t>(queue_sizes_.size());
    TRY(disk.u16("queues", queues, queues));
    const bool read_only = TRY(disk.boolean("read_only"));
    if (read_only != config_.read_only)
        return disk.refuse("read_only", "%s for the driver, and %s by the configuration", read_only ? "true" : "false",
                           config_.read_only ? "true" : "false");
    std::string device_id(VIRTIO_BLK_ID_BYTES, '\0');
    TRY(disk.bytes("device_id", std::as_writable_bytes(std::span(device_id))));
    TRY(disk.finish());
    RecordReader limiter = TRY(reader.record(RateLimiter::kRecord));
    TRY(rate_limiter_.restore(limiter));
    TRY(reader.finish());

    file_.sectors = sectors;
    file_.device_id = std::move(device_id);
    features_ = features;
    block_size_ = block_size;
    set_limits();
    return {};
}

}  // namespace wisp::virtio
