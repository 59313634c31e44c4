// SPDX-License-Identifier: Apache-2.0
//
// A block request in segments of any lengths, some of them on top of each other, checked against any disk.
#include "virtio/block/request.h"

#include "tests/fuzz/fuzz.h"
#include "virtio/queue.h"

using namespace wisp;
using namespace wisp::virtio;

namespace {

constexpr uint64_t kMemory = 256 << 10;
constexpr uint16_t kSize = 64;
constexpr uint64_t kTable = 0, kAvailable = 0x1000, kUsed = 0x2000, kData = 0x3000;

struct Descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const GuestMemory memory = fuzz::guest_memory(kMemory);
    std::byte* const host = fuzz::host_bytes(memory);
    memset(host, 0, kMemory);
    fuzz::Input input(data, size);
    BlockLimits limits;
    const auto flags = input.take<uint8_t>();
    limits.sectors = input.take<uint64_t>() >> (flags & 63);
    limits.read_only = flags & 1;
    limits.flush = flags & 2;
    limits.discard = flags & 4;
    limits.write_zeroes = flags & 8;
    limits.max_range_sectors = limits::kBlockRangeSectors;

    // Lengths and directions first, then the bytes behind them.
    const unsigned count = input.take<uint8_t>() % kSize + 1u;
    const unsigned writable_from = input.take<uint8_t>() % (count + 1u);
    uint64_t at = kData;
    for (unsigned i = 0; i < count; ++i) {
        const auto length = input.take<uint16_t>();
        const uint16_t next = i + 1 < count;
        const Descriptor descriptor = {at, length, static_cast<uint16_t>(next | (i >= writable_from ? 2 : 0)),
                                       static_cast<uint16_t>(i + 1)};
        memcpy(host + kTable + i * sizeof descriptor, &descriptor, sizeof descriptor);
        at += at + length < kMemory / 2 ? length : 0;
    }
    const auto content = input.bytes(kMemory - kData);
    if (!content.empty()) memcpy(host + kData, content.data(), content.size());
    const uint16_t available[] = {0, 1, 0};
    memcpy(host + kAvailable, available, sizeof available);

    auto queue = Queue::create(memory, {kSize, {kTable}, {kAvailable}, {kUsed}, 0, 0}, 0, kSize);
    CHECK(queue.has_value());
    GuestSlice storage[kSize];
    Chain chain;
    if (queue->pop(chain, storage) != Queue::Pop::kChain) return 0;
    WritableSlice status;
    const auto request = parse_block_request(chain, limits, status);
    if (request) {
        uint64_t bytes = 0;
        for (const GuestSlice& slice : request->data) bytes += slice.as_iovec().iov_len;
        const bool moves = request->type == BlockRequest::Type::kRead || request->type == BlockRequest::Type::kWrite;
        const bool changes = request->type != BlockRequest::Type::kRead &&
                             request->type != BlockRequest::Type::kFlush && request->type != BlockRequest::Type::kGetId;
        CHECK(status.as_iovec().iov_len == 1);
        CHECK(!moves || bytes == request->length);
        CHECK(!changes || !limits.read_only);
        const bool ranged = moves || changes;
        CHECK(!ranged || request->length <= limits.sectors * kSectorSize || limits.sectors > UINT64_MAX / kSectorSize);
        CHECK(!ranged || limits.sectors > UINT64_MAX / kSectorSize ||
              request->offset <= limits.sectors * kSectorSize - request->length);
    }
    chain.abandon();
    return 0;
}
