// SPDX-License-Identifier: Apache-2.0
#include "virtio/block/request.h"

#include <linux/virtio_blk.h>

#include "virtio/cursor.h"

namespace wisp::virtio {

namespace {

struct Header {
    le32 type;
    le32 reserved;
    le64 sector;
};
static_assert(sizeof(Header) == sizeof(virtio_blk_outhdr));

struct RangeSegment {  // of discard and write-zeroes
    le64 sector;
    le32 sectors;
    le32 flags;
};
static_assert(sizeof(RangeSegment) == sizeof(virtio_blk_discard_write_zeroes));

using Parsed = std::expected<BlockRequest, BlockFault>;

std::unexpected<BlockFault> io_error(const char* reason) {
    return std::unexpected(BlockFault{VIRTIO_BLK_S_IOERR, reason});
}
std::unexpected<BlockFault> unsupported(const char* reason) {
    return std::unexpected(BlockFault{VIRTIO_BLK_S_UNSUPP, reason});
}

bool within(uint64_t sector, uint64_t sectors, const BlockLimits& limits) {
    return sector <= limits.sectors && sectors <= limits.sectors - sector;
}

Parsed parse_transfer(BlockRequest::Type type, uint64_t sector, std::span<GuestSlice> data, const BlockLimits& limits) {
    const uint64_t length = total_size(data);
    if (length == 0 || length % kSectorSize != 0) return io_error("data is not a number of whole sectors");
    if (!within(sector, length / kSectorSize, limits)) return io_error("beyond the end of the disk");
    if (length > limits.max_request_bytes) return io_error("longer than a request may be");
    for (const GuestSlice& segment : data)
        if (segment.size() > limits.max_segment_bytes) return io_error("a segment is longer than SIZE_MAX");
    // Within the disk, so the product does not wrap.
    return BlockRequest{.type = type, .offset = sector * kSectorSize, .length = length, .data = data};
}

Parsed parse_range(BlockRequest::Type type, Reader& reader, const BlockLimits& limits) {
    const bool discard = type == BlockRequest::Type::kDiscard;
    if (!(discard ? limits.discard : limits.write_zeroes))
        return unsupported("discard or write-zeroes was not negotiated");
    if (limits.read_only) return io_error("the drive is read-only");
    // max_discard_seg and max_write_zeroes_seg are 1.
    const auto range = reader.read<RangeSegment>();
    if (!range || reader.remaining() != 0) return io_error("not exactly one range");
    // Section 5.2.6.2: unknown flags, and UNMAP on a discard, are answered with UNSUPP.
    const uint32_t known = discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
    if (range->flags & ~known) return unsupported("unknown flag of a range");
    if (range->sectors == 0 || range->sectors > limits.max_range_sectors) return io_error("range is empty or too long");
    if (!within(range->sector, range->sectors, limits)) return io_error("range beyond the end of the disk");
    return BlockRequest{.type = type,
                        .unmap = range->flags ? BlockRequest::Unmap::kYes : BlockRequest::Unmap::kNo,
                        .offset = range->sector * kSectorSize,
                        .length = uint64_t{range->sectors} * kSectorSize,
                        .data = {}};
}

}  // namespace

Parsed parse_block_request(const Chain& chain, const BlockLimits& limits, WritableSlice& status) {
    using Type = BlockRequest::Type;
    Reader reader(chain.readable());
    Writer writer(chain.writable());
    status = writer.take_last_byte();
    if (status.empty()) return io_error("no room for the status byte");
    const auto header = reader.read<Header>();
    if (!header) return io_error("header too short");

    switch (header->type) {
        case VIRTIO_BLK_T_IN:
            if (!reader.rest().empty()) return io_error("a read carries data");
            return parse_transfer(Type::kRead, header->sector, as_slices(writer.rest()), limits);
        case VIRTIO_BLK_T_OUT:
            if (!writer.rest().empty()) return io_error("a write asks for data");
            if (limits.read_only) return io_error("the drive is read-only");
            return parse_transfer(Type::kWrite, header->sector, reader.rest(), limits);
        case VIRTIO_BLK_T_FLUSH:
            if (!limits.flush) return unsupported("flush was not negotiated");
            return BlockRequest{.type = Type::kFlush, .data = {}};
        case VIRTIO_BLK_T_GET_ID:
            if (writer.remaining() < VIRTIO_BLK_ID_BYTES) return io_error("no room for the device ID");
            return BlockRequest{.type = Type::kGetId, .length = VIRTIO_BLK_ID_BYTES, .data = as_slices(writer.rest())};
        case VIRTIO_BLK_T_DISCARD:
            return parse_range(Type::kDiscard, reader, limits);
        case VIRTIO_BLK_T_WRITE_ZEROES:
            return parse_range(Type::kWriteZeroes, reader, limits);
        default:
            return unsupported("unknown request type");
    }
}

}  // namespace wisp::virtio
