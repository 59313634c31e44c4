// SPDX-License-Identifier: Apache-2.0
//
// Records: the form in which state leaves the process. Records are bytes; the bytes go to a file, a socket or a
// sibling. A record is a leaf, which holds fields, or a group, which holds records. The format is in base/RECORD.md.
//
//     inline constexpr RecordType kClock{"clck", "clock", 1, Need::kRequired};
//
//     const auto scope = writer.leaf(kClock);                 RecordReader clock = TRY(group.record(kClock));
//     writer.u64(now_ns);                                     now_ns = TRY(clock.u64("now_ns", 1, kMost));
//                                                             TRY(clock.finish());
//
// A RecordReader trusts nothing: each length, count and checksum is checked before it is used, and no allocation is
// larger than the bytes that were given. Errors name the path of the record and the field, as in
// "vcpu[1].lapic.registers: 512 bytes, 1024 are needed".
//
// Threads: none of its own; a writer or reader belongs to the thread that made it.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/endian.h"
#include "base/result.h"

namespace wisp {

/// What a reader that does not know a record (or its version) does.
enum class Need : uint16_t {
    kOptional = 0,  ///< skips it
    kRequired = 1,  ///< refuses the whole, by the record's name
};

/// A kind of record, the same object for the code that writes it and the code that reads it.
struct RecordType {
    char code[5];      ///< four characters: what is in the bytes
    const char* name;  ///< what errors say
    uint16_t version;  ///< what this program writes, and the newest that it reads; from 1
    Need need;
};

/// The first bytes of each record.
struct RecordHeader {
    char code[4];
    le16 version;
    le16 flags;
    le32 index;
    le32 length;  ///< bytes that follow the header
    le64 checksum;

    static constexpr uint16_t kRequired = 1, kGroup = 2;
};
static_assert(sizeof(RecordHeader) == 24 && alignof(RecordHeader) == 1);

class RecordWriter {
public:
    /// A record that is being written: it ends with this object.
    class Scope {
    public:
        Scope(Scope&& other) noexcept : writer_(std::exchange(other.writer_, nullptr)) {}
        Scope& operator=(Scope&&) = delete;
        ~Scope() {
            if (writer_) writer_->close();
        }

    private:
        friend class RecordWriter;
        explicit Scope(RecordWriter& writer) : writer_(&writer) {}
        RecordWriter* writer_;
    };

    /// Begins a record in the group that is being written, or the outermost one. `index` tells records of one type in
    /// one group apart.
    [[nodiscard]] Scope group(const RecordType& type, uint32_t index = 0) {
        return open(type, index, RecordHeader::kGroup);
    }
    [[nodiscard]] Scope leaf(const RecordType& type, uint32_t index = 0) { return open(type, index, 0); }

    // Fields of the leaf that is being written.
    void u8(uint8_t value) { number(value); }
    void u16(uint16_t value) { number(value); }
    void u32(uint32_t value) { number(value); }
    void u64(uint64_t value) { number(value); }
    void boolean(bool value) { number(static_cast<uint8_t>(value)); }
    /// Bytes whose number the reader knows.
    void bytes(std::span<const std::byte> bytes);
    /// A structure of the kernel's interface, whose layout is fixed there.
    template <class T>
        requires std::is_trivially_copyable_v<T>
    void structure(const T& value) {
        bytes(std::as_bytes(std::span(&value, 1)));
    }
    /// Bytes, or text, with their number in front.
    void blob(std::span<const std::byte> bytes);
    void text(std::string_view text) { blob(std::as_bytes(std::span(text))); }

    /// All that was written. Every scope has ended.
    std::vector<std::byte> take();

private:
    Scope open(const RecordType& type, uint32_t index, uint16_t shape);
    void close();
    template <std::unsigned_integral T>
    void number(T value) {
        structure(LittleEndian<T>(value));
    }

    std::vector<std::byte> out_;
    std::vector<size_t> open_;  // where the records that are being written start, the innermost last
};

class RecordReader {
public:
    /// Reads the record that `bytes` consist of. They must outlive the reader and all that it gives.
    static Result<RecordReader> open(std::span<const std::byte> bytes, const RecordType& type);
    /// For a stream: how many bytes the record has that begins with `header`, with the header.
    static Result<size_t> size_of(const RecordHeader& header, const RecordType& type);

    /// The version of what is being read: 1 up to the type's.
    uint16_t version() const { return version_; }
    /// For errors: "vcpu[1].lapic".
    const std::string& path() const { return path_; }

    // Of a group
    /// The record of this type and index; each can be taken once.
    Result<RecordReader> record(const RecordType& type, uint32_t index = 0);
    /// Nothing if there is none, or if it is optional and of a version that is not known.
    Result<std::optional<RecordReader>> optional_record(const RecordType& type, uint32_t index = 0);
    /// How many records of this type there are: the next call is record(type, 0 … count - 1).
    Result<uint32_t> count(const RecordType& type, uint32_t most) const;

    // Of a leaf: its fields, in the order in which they were written. `min` and `max` are both allowed.
    Result<uint8_t> u8(const char* field, uint8_t min = 0, uint8_t max = UINT8_MAX) { return number(field, min, max); }
    Result<uint16_t> u16(const char* field, uint16_t min = 0, uint16_t max = UINT16_MAX) {
        return number(field, min, max);
    }
    Result<uint32_t> u32(const char* field, uint32_t min = 0, uint32_t max = UINT32_MAX) {
        return number(field, min, max);
    }
    Result<uint64_t> u64(const char* field, uint64_t min = 0, uint64_t max = UINT64_MAX) {
        return number(field, min, max);
    }
    Result<bool> boolean(const char* field);
    /// A value of an enumeration whose values are 0 up to `last`.
    template <class E>
    Result<E> enumeration(const char* field, E last) {
        using T = std::make_unsigned_t<std::underlying_type_t<E>>;
        return static_cast<E>(TRY(number<T>(field, 0, static_cast<T>(last))));
    }
    Result<void> bytes(const char* field, std::span<std::byte> into);
    template <class T>
        requires std::is_trivially_copyable_v<T>
    Result<T> structure(const char* field) {
        T value{};
        TRY(bytes(field, std::as_writable_bytes(std::span(&value, 1))));
        return value;
    }
    /// The bytes themselves, not a copy.
    Result<std::span<const std::byte>> blob(const char* field, size_t max_size);
    Result<std::string> text(const char* field, size_t max_size);

    /// An error unless `min` <= `value` <= `max`: for fields of a structure.
    Result<void> check_range(const char* field, uint64_t value, uint64_t min, uint64_t max) const;

    /// All was read: a leaf has no byte left, a group no required record that was not taken. Call it at the end.
    [[nodiscard]] Result<void> finish() const;

    /// An error about this record or one of its fields, for what the caller checks itself:
    /// return reader.refuse("queue.size", "%u is no power of two", size);
    template <class... Args>
    [[nodiscard]] std::unexpected<Error> refuse(const char* field, const char* pattern, Args... args) const {
        return fail("%s%s%s: %s", path_.c_str(), field[0] ? "." : "", field,
                    fail(pattern, args...).error().message.c_str());
    }

private:
    struct Child {
        size_t start;  // in rest_
        bool taken;
    };
    RecordReader() = default;
    static Result<RecordReader> enter(std::span<const std::byte> record, std::string path, const RecordType& type);
    Result<void> find_children(uint64_t& sum);
    RecordHeader header_of(const Child& child) const;
    std::string path_of(const RecordHeader& header, const char* name) const;
    Child* find(const RecordType& type, uint32_t index);
    Result<std::span<const std::byte>> take(const char* field, size_t size);
    template <std::unsigned_integral T>
    Result<T> number(const char* field, T min, T max) {
        const T value = TRY(structure<LittleEndian<T>>(field));
        TRY(check_range(field, value, min, max));
        return value;
    }

    std::string path_;
    uint16_t version_ = 0;
    bool group_ = false;
    std::span<const std::byte> rest_;  // of a leaf: what is not read yet; of a group: all its records
    std::vector<Child> children_;
};

}  // namespace wisp
