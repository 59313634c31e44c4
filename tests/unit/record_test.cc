// SPDX-License-Identifier: Apache-2.0
#include "base/record.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "base/limits.h"

using namespace wisp;

namespace {

constexpr RecordType kMachine{"mach", "machine", 1, Need::kRequired};
constexpr RecordType kVcpu{"vcpu", "vcpu", 2, Need::kRequired};
constexpr RecordType kLapic{"lapc", "lapic", 1, Need::kRequired};
constexpr RecordType kNames{"name", "names", 1, Need::kRequired};
constexpr RecordType kNote{"note", "note", 3, Need::kOptional};

struct KernelStructure {
    uint32_t a;
    uint16_t b, padding = 0;
};

using Bytes = std::vector<std::byte>;

Bytes machine() {
    RecordWriter writer;
    {
        const auto outer = writer.group(kMachine);
        for (uint32_t i = 0; i < 2; ++i) {
            const auto vcpu = writer.group(kVcpu, i);
            {
                const auto lapic = writer.leaf(kLapic);
                writer.u8(static_cast<uint8_t>(7 + i));
                writer.u16(0x1234);
                writer.u32(0x12345678);
                writer.u64(0x123456789abcdef0 + i);
                writer.boolean(i == 1);
            }
            const auto note = writer.leaf(kNote);
            writer.text("a note");
        }
        const auto names = writer.leaf(kNames);
        writer.text("");
        writer.text("wisp");
        writer.blob(std::as_bytes(std::span("xyz", 3)));
        writer.structure(KernelStructure{1, 2});
    }
    return writer.take();
}

Result<void> read_machine(std::span<const std::byte> bytes) {
    RecordReader outer = TRY(RecordReader::open(bytes, kMachine));
    const uint32_t count = TRY(outer.count(kVcpu, 32));
    for (uint32_t i = 0; i < count; ++i) {
        RecordReader vcpu = TRY(outer.record(kVcpu, i));
        RecordReader lapic = TRY(vcpu.record(kLapic));
        TRY(lapic.u8("id", 7, 8));
        TRY(lapic.u16("a", 0x1234, 0x1234));
        TRY(lapic.u32("b"));
        TRY(lapic.u64("c"));
        TRY(lapic.boolean("d"));
        TRY(lapic.finish());
        if (auto note = TRY(vcpu.optional_record(kNote))) {
            TRY(note->text("text", 100));
            TRY(note->finish());
        }
        TRY(vcpu.finish());
    }
    RecordReader names = TRY(outer.record(kNames));
    TRY(names.text("first", 0));
    TRY(names.text("second", 4));
    TRY(names.blob("third", 3));
    TRY(names.structure<KernelStructure>("fourth"));
    TRY(names.finish());
    return outer.finish();
}

/// A machine whose only record is a leaf of `type` that is written by `fields`.
template <class F>
Bytes with_leaf(const RecordType& type, F fields, uint32_t index = 0) {
    RecordWriter writer;
    {
        const auto outer = writer.group(kMachine);
        const auto leaf = writer.leaf(type, index);
        fields(writer);
    }
    return writer.take();
}

}  // namespace

TEST_CASE("records come back as they were written", "[record]") {
    const Bytes bytes = machine();
    CHECK(read_machine(bytes).has_value());
    CHECK(bytes == machine());

    RecordReader outer = *RecordReader::open(bytes, kMachine);
    REQUIRE(outer.count(kVcpu, 2) == 2u);
    RecordReader vcpu = *outer.record(kVcpu, 1);
    CHECK(vcpu.version() == 2);
    CHECK(vcpu.path() == "machine.vcpu[1]");
    RecordReader lapic = *vcpu.record(kLapic);
    CHECK(lapic.path() == "machine.vcpu[1].lapic");
    CHECK(lapic.u8("id") == 8);
    CHECK(lapic.u16("a") == 0x1234);
    CHECK(lapic.u32("b") == 0x12345678u);
    CHECK(lapic.u64("c") == 0x123456789abcdef1);
    CHECK(lapic.boolean("d") == true);
    CHECK(lapic.finish().has_value());
    RecordReader names = *outer.record(kNames);
    CHECK(names.text("first", 10) == "");
    CHECK(names.text("second", 10) == "wisp");
    CHECK(memcmp(names.blob("third", 10)->data(), "xyz", 3) == 0);
    CHECK(names.structure<KernelStructure>("fourth")->b == 2);
}

TEST_CASE("the layout of a record is what RECORD.md says", "[record]") {
    RecordWriter writer;
    {
        const auto leaf = writer.leaf(kNote, 5);
        writer.u16(0x0102);
    }
    const Bytes bytes = writer.take();
    const uint8_t expected[] = {'n', 'o', 't', 'e', 3, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0};
    REQUIRE(bytes.size() == sizeof expected + 8 + 2);
    CHECK(memcmp(bytes.data(), expected, sizeof expected) == 0);
    CHECK(bytes[24] == std::byte{2});
    CHECK(bytes[25] == std::byte{1});
}

TEST_CASE("a record cut short at any byte is refused", "[record]") {
    const Bytes bytes = machine();
    for (size_t size = 0; size < bytes.size(); ++size) {
        const Bytes cut(bytes.begin(), bytes.begin() + static_cast<long>(size));
        CHECK_FALSE(read_machine(cut).has_value());
    }
    Bytes longer = bytes;
    longer.push_back({});
    CHECK(read_machine(longer).error().message ==
          format("machine: %zu bytes, its header says %zu", longer.size(), bytes.size()));
}

TEST_CASE("a flipped bit is found", "[record]") {
    const Bytes bytes = machine();
    for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        Bytes damaged = bytes;
        damaged[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
        INFO("bit " << bit);
        const auto read = read_machine(damaged);
        // Notes are optional, but they are read here, so damage there is found as well.
        CHECK_FALSE(read.has_value());
    }
    Bytes damaged = bytes;
    damaged[24 * 3 + 3] ^= std::byte{1};  // in the content of the first vCPU's LAPIC
    CHECK(read_machine(damaged).error().message ==
          "machine.vcpu[0].lapic: the checksum differs: the record is damaged");
}

TEST_CASE("an unknown record is skipped if it is optional and refused by name if it is required", "[record]") {
    constexpr RecordType kNew{"new!", "new", 1, Need::kRequired}, kExtra{"xtra", "extra", 1, Need::kOptional};
    const auto nothing = [](RecordWriter&) {};
    CHECK(RecordReader::open(with_leaf(kExtra, nothing), kMachine)->finish().has_value());
    CHECK(RecordReader::open(with_leaf(kNew, nothing), kMachine)->finish().error().message ==
          "machine.new!: the record is required and this program does not know it");
    CHECK(RecordReader::open(with_leaf(kNew, nothing, 3), kMachine)->finish().error().message ==
          "machine.new![3]: the record is required and this program does not know it");
    const Bytes without = with_leaf(kExtra, nothing);
    CHECK(RecordReader::open(without, kMachine)->record(kVcpu, 4).error().message ==
          "machine.vcpu[4]: the record is missing");
}

TEST_CASE("a version that is not known is skipped in optional records and refused in others", "[record]") {
    constexpr RecordType kNewNote{"note", "note", 4, Need::kOptional}, kNewNames{"name", "names", 2, Need::kRequired};
    const auto nothing = [](RecordWriter&) {};
    const Bytes note = with_leaf(kNewNote, nothing), names = with_leaf(kNewNames, nothing);
    auto reader = *RecordReader::open(note, kMachine);
    const auto skipped = reader.optional_record(kNote);
    REQUIRE(skipped.has_value());
    CHECK_FALSE(skipped->has_value());
    CHECK(reader.finish().has_value());
    CHECK(RecordReader::open(names, kMachine)->record(kNames).error().message ==
          "machine.names: version 2, this program reads 1 to 1");

    constexpr RecordType kOldNote{"note", "note", 1, Need::kOptional};
    const Bytes old = with_leaf(kOldNote, nothing);
    CHECK(RecordReader::open(old, kMachine)->record(kNote)->version() == 1);
}

TEST_CASE("fields out of range are refused by name", "[record]") {
    const Bytes bytes = with_leaf(kNames, [](RecordWriter& writer) {
        writer.u32(999);
        writer.u8(2);
        writer.u32(0xffffffff);
    });
    auto names = *RecordReader::open(bytes, kMachine)->record(kNames);
    CHECK(names.u32("queue.size", 1, 256).error().message == "machine.names.queue.size: 999 is out of range, 1 to 256");
    CHECK(names.boolean("ready").error().message == "machine.names.ready: 2 is out of range, 0 to 1");
    auto copy = names;
    CHECK(copy.text("text", 100).error().message == "machine.names.text: 4294967295 bytes, at most 100 are allowed");
    CHECK(names.text("text", SIZE_MAX).error().message == "machine.names.text: 0 bytes, 4294967295 are needed");
    CHECK(names.refuse("text", "%d is odd", 3).error().message == "machine.names.text: 3 is odd");

    const Bytes enumerated = with_leaf(kNames, [](RecordWriter& writer) { writer.u8(3); });
    enum class Mode : uint8_t { kA, kB, kC };
    CHECK(RecordReader::open(enumerated, kMachine)->record(kNames)->enumeration("mode", Mode::kC).error().message ==
          "machine.names.mode: 3 is out of range, 0 to 2");
}

TEST_CASE("a record is read whole, once, and as what it is", "[record]") {
    const Bytes bytes = with_leaf(kNames, [](RecordWriter& writer) { writer.u32(1); });
    auto outer = *RecordReader::open(bytes, kMachine);
    CHECK(outer.u32("size").error().message == "machine.size: the record holds records, not fields");
    auto names = *outer.record(kNames);
    CHECK(names.record(kNote).error().message == "machine.names: this record holds fields, not records");
    CHECK(outer.record(kNames).error().message == "machine.names: the record is missing");
    CHECK(names.finish().error().message == "machine.names: 4 bytes behind the last field");
    CHECK(names.u64("size").error().message == "machine.names.size: 4 bytes, 8 are needed");

    RecordWriter writer;
    {
        const auto group = writer.group(kMachine);
        for (int i = 0; i < 2; ++i) (void)writer.leaf(kNames);
    }
    const Bytes twice = writer.take();
    auto reader = *RecordReader::open(twice, kMachine);
    CHECK(reader.record(kNames).has_value());
    CHECK(reader.finish().error().message == "machine.name: the record is required and this program does not know it");
    CHECK(reader.count(kNames, 1).error().message == "machine.names: 2 records, at most 1 are allowed");
}

TEST_CASE("the size of a record on a stream comes from its header", "[record]") {
    const Bytes bytes = machine();
    RecordHeader header;
    memcpy(&header, bytes.data(), sizeof header);
    CHECK(RecordReader::size_of(header, kMachine) == bytes.size());
    header.length = 0xffffffff;
    CHECK(RecordReader::size_of(header, kMachine).error().message ==
          "machine: 4294967319 bytes, at most 67108864 are allowed");
    CHECK(RecordReader::size_of(header, kVcpu).error().message == "this is no vcpu: it begins with 'mach'");
}

TEST_CASE("a group has no more records than the limit", "[record]") {
    for (const size_t count : {limits::kMaxRecordsInGroup, limits::kMaxRecordsInGroup + 1}) {
        RecordWriter writer;
        {
            const auto group = writer.group(kMachine);
            for (uint32_t i = 0; i < count; ++i) (void)writer.leaf(kNote, i);
        }
        const Bytes bytes = writer.take();
        CHECK(RecordReader::open(bytes, kMachine).has_value() == (count == limits::kMaxRecordsInGroup));
    }
}
