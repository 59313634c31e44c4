// SPDX-License-Identifier: Apache-2.0
//
// What a virtio-blk driver asks for (virtio 1.2, section 5.2.6): from the bytes of a chain to a checked Request. Pure:
// no I/O, no state. The bytes are the guest's, copied once.
#pragma once

#include <cstdint>
#include <expected>
#include <span>

#include "base/endian.h"
#include "base/guest_memory.h"
#include "virtio/queue.h"

namespace wisp::virtio {

inline constexpr uint32_t kSectorSize = 512;

/// What the disk is and what was negotiated: all that a request is checked against.
struct BlockLimits {
    uint64_t sectors = 0;  ///< capacity in sectors of 512 bytes
    bool read_only = false;
    bool flush = false;                       ///< VIRTIO_BLK_F_FLUSH
    bool discard = false;                     ///< VIRTIO_BLK_F_DISCARD
    bool write_zeroes = false;                ///< VIRTIO_BLK_F_WRITE_ZEROES
    uint32_t max_range_sectors = 0;           ///< of one discard or write-zeroes range
    uint32_t max_segment_bytes = UINT32_MAX;  ///< of a read or write; SIZE_MAX, if VIRTIO_BLK_F_SIZE_MAX was negotiated
    uint64_t max_request_bytes = UINT64_MAX;  ///< of a read or write
};

struct BlockRequest {
    enum class Type : uint8_t { kRead, kWrite, kFlush, kGetId, kDiscard, kWriteZeroes };
    enum class Unmap : uint8_t { kNo, kYes };

    Type type;
    Unmap unmap = Unmap::kNo;    ///< of write-zeroes: the range may be deallocated
    uint64_t offset = 0;         ///< bytes into the disk
    uint64_t length = 0;         ///< bytes
    std::span<GuestSlice> data;  ///< what to read into or write from; `length` bytes for reads and writes
};

/// Why a request cannot be served.
struct BlockFault {
    uint8_t status;      ///< VIRTIO_BLK_S_IOERR or _UNSUPP, for the status byte
    const char* reason;  ///< for the log
};

/// Splits a chain into header, data and status byte, wherever its segments end. `status` is set as soon as there is
/// room for it; where it stays empty, only a used length of 0 tells the driver.
std::expected<BlockRequest, BlockFault> parse_block_request(const Chain& chain, const BlockLimits& limits,
                                                            WritableSlice& status);

}  // namespace wisp::virtio
