// SPDX-License-Identifier: Apache-2.0
//
// Records read as a reader of state reads them, by an input that says what is asked for. The first byte says whether
// the checksums are put right first, so that the input gets behind them.
#include "base/record.h"

#include <algorithm>
#include <vector>

#include "base/checksum.h"
#include "tests/fuzz/fuzz.h"

using namespace wisp;

namespace {

constexpr RecordType kTypes[] = {{"mach", "machine", 2, Need::kRequired},
                                 {"vcpu", "vcpu", 2, Need::kRequired},
                                 {"name", "names", 1, Need::kRequired},
                                 {"note", "note", 1, Need::kOptional}};
constexpr unsigned kMostDepth = 8;

/// Makes the checksums right of the record at the front of `bytes` and of those in it.
void repair(std::span<std::byte> bytes, unsigned depth) {
    RecordHeader header;
    if (bytes.size() < sizeof header || depth == kMostDepth) return;
    memcpy(&header, bytes.data(), sizeof header);
    auto content = bytes.subspan(sizeof header);
    content = content.first(std::min<size_t>(content.size(), header.length));
    uint64_t sum = checksum(bytes.first(offsetof(RecordHeader, checksum)));
    if (header.flags & RecordHeader::kGroup) {
        while (content.size() >= sizeof header) {
            repair(content, depth + 1);
            RecordHeader child;
            memcpy(&child, content.data(), sizeof child);
            sum = checksum(std::as_bytes(std::span(&child, 1)), sum);
            content = content.subspan(std::min(content.size(), sizeof child + child.length));
        }
    } else {
        sum = checksum(content, sum);
    }
    header.checksum = sum;
    memcpy(bytes.data(), &header, sizeof header);
}

void read_fields(RecordReader& reader, fuzz::Input& plan) {
    for (unsigned i = 0; i < 16; ++i) {
        switch (plan.take<uint8_t>() % 6) {
            case 0:
                if (const auto value = reader.u8("a", 3, 9)) CHECK(*value >= 3 && *value <= 9);
                break;
            case 1:
                (void)reader.u16("b");
                break;
            case 2:
                if (const auto value = reader.u64("c", 1)) CHECK(*value >= 1);
                break;
            case 3:
                if (const auto value = reader.text("d", 20)) CHECK(value->size() <= 20);
                break;
            case 4:
                if (const auto value = reader.blob("e", SIZE_MAX)) CHECK(value->size() < limits::kMaxRecordBytes);
                break;
            default:
                (void)reader.boolean("f");
        }
    }
}

void read(RecordReader reader, fuzz::Input& plan, unsigned depth) {
    CHECK(!reader.path().empty() && depth < kMostDepth * 8);
    read_fields(reader, plan);
    for (const RecordType& type : kTypes) {
        const auto count = reader.count(type, 100);
        for (uint32_t i = 0; i < (count ? *count : 1); ++i) {
            auto child = reader.optional_record(type, i);
            if (child && *child && depth + 1 < kMostDepth) read(**std::move(child), plan, depth + 1);
        }
    }
    (void)reader.finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz::Input input(data, size);
    const bool repaired = input.take<uint8_t>() & 1;
    const auto content = std::as_bytes(input.bytes(size));
    std::vector<std::byte> bytes(content.begin(), content.end());
    if (repaired && bytes.size() >= sizeof(RecordHeader)) {
        le32 length = static_cast<uint32_t>(bytes.size() - sizeof(RecordHeader));
        memcpy(bytes.data() + offsetof(RecordHeader, length), &length, sizeof length);
        repair(bytes, 0);
    }
    fuzz::Input plan(data, size);
    if (auto reader = RecordReader::open(bytes, kTypes[0])) read(*std::move(reader), plan, 0);
    return 0;
}
