// SPDX-License-Identifier: Apache-2.0
#include "base/record.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/checksum.h"
#include "base/limits.h"

namespace wisp {

namespace {

using limits::kMaxRecordBytes;
using limits::kMaxRecordsInGroup;

/// The part of a header that its own checksum covers.
constexpr size_t kCovered = offsetof(RecordHeader, checksum);

std::span<const std::byte> bytes_of(const RecordHeader& header) {
    return std::as_bytes(std::span(&header, 1));
}

RecordHeader header_at(std::span<const std::byte> bytes) {
    RecordHeader header;
    memcpy(&header, bytes.data(), sizeof header);
    return header;
}

bool is_group(const RecordHeader& header) {
    return header.flags & RecordHeader::kGroup;
}

bool is_required(const RecordHeader& header) {
    return header.flags & RecordHeader::kRequired;
}

bool has_type(const RecordHeader& header, const RecordType& type) {
    return memcmp(header.code, type.code, sizeof header.code) == 0;
}

/// The four characters for an error: bytes that are no printable characters become dots.
std::string code_text(const RecordHeader& header) {
    std::string text(header.code, sizeof header.code);
    for (char& character : text)
        if (character < ' ' || character > '~') character = '.';
    while (text.ends_with(' ')) text.pop_back();
    return text;
}

/// A group's checksum covers its header and the headers of the records in it, whose checksums cover the rest: no byte
/// is read twice, and damage is found in the record where it is.
uint64_t add_child(uint64_t sum, const RecordHeader& child) {
    return checksum(bytes_of(child), sum);
}

uint64_t begin_sum(const RecordHeader& header) {
    return checksum(bytes_of(header).first(kCovered));
}

}  // namespace

// --- writing

RecordWriter::Scope RecordWriter::open(const RecordType& type, uint32_t index, uint16_t shape) {
    CHECK(open_.empty() ? out_.empty() : is_group(header_at(std::span(out_).subspan(open_.back()))));
    CHECK(strlen(type.code) == sizeof RecordHeader::code && type.version > 0);
    RecordHeader header{};
    memcpy(header.code, type.code, sizeof header.code);
    header.version = type.version;
    header.flags = static_cast<uint16_t>(shape | (type.need == Need::kRequired ? RecordHeader::kRequired : 0));
    header.index = index;
    open_.push_back(out_.size());
    const auto bytes = bytes_of(header);
    out_.insert(out_.end(), bytes.begin(), bytes.end());
    return Scope(*this);
}

void RecordWriter::close() {
    const std::span record = std::span(out_).subspan(open_.back());
    open_.pop_back();
    CHECK(record.size() <= kMaxRecordBytes);
    RecordHeader header = header_at(record);
    const std::span<const std::byte> content = record.subspan(sizeof header);
    header.length = static_cast<uint32_t>(content.size());
    uint64_t sum = begin_sum(header);
    if (is_group(header)) {
        for (size_t at = 0; at < content.size();) {
            const RecordHeader child = header_at(content.subspan(at));
            sum = add_child(sum, child);
            at += sizeof child + child.length;
        }
    } else {
        sum = checksum(content, sum);
    }
    header.checksum = sum;
    memcpy(record.data(), &header, sizeof header);
}

void RecordWriter::bytes(std::span<const std::byte> bytes) {
    CHECK(!open_.empty() && !is_group(header_at(std::span(out_).subspan(open_.back()))));
    out_.insert(out_.end(), bytes.begin(), bytes.end());
}

void RecordWriter::blob(std::span<const std::byte> content) {
    CHECK(content.size() <= kMaxRecordBytes);
    u32(static_cast<uint32_t>(content.size()));
    bytes(content);
}

std::vector<std::byte> RecordWriter::take() {
    CHECK(open_.empty());
    return std::exchange(out_, {});
}

// --- reading

Result<size_t> RecordReader::size_of(const RecordHeader& header, const RecordType& type) {
    if (!has_type(header, type))
        return fail("this is no %s: it begins with '%s'", type.name, code_text(header).c_str());
    const size_t size = sizeof header + size_t{header.length};
    if (size > kMaxRecordBytes) return fail("%s: %zu bytes, at most %zu are allowed", type.name, size, kMaxRecordBytes);
    return size;
}

Result<RecordReader> RecordReader::open(std::span<const std::byte> bytes, const RecordType& type) {
    if (bytes.size() < sizeof(RecordHeader))
        return fail("%s: %zu bytes, a record's header has %zu", type.name, bytes.size(), sizeof(RecordHeader));
    const size_t size = TRY(size_of(header_at(bytes), type));
    if (size != bytes.size()) return fail("%s: %zu bytes, its header says %zu", type.name, bytes.size(), size);
    return enter(bytes, type.name, type);
}

Result<RecordReader> RecordReader::enter(std::span<const std::byte> record, std::string path, const RecordType& type) {
    const RecordHeader header = header_at(record);
    RecordReader reader;
    reader.path_ = std::move(path);
    reader.version_ = header.version;
    reader.group_ = is_group(header);
    reader.rest_ = record.subspan(sizeof header);
    uint64_t sum = begin_sum(header);
    if (reader.group_)
        TRY(reader.find_children(sum));
    else
        sum = checksum(reader.rest_, sum);
    if (sum != header.checksum) return reader.refuse("", "the checksum differs: the record is damaged");
    // The checks of what the writer means follow those of damage, which may look like anything.
    constexpr uint16_t kKnown = RecordHeader::kRequired | RecordHeader::kGroup;
    if (header.flags & ~kKnown) return reader.refuse("", "flags 0x%x are not known", unsigned{header.flags});
    if (header.version == 0 || header.version > type.version)
        return reader.refuse("", "version %u, this program reads 1 to %u", unsigned{header.version},
                             unsigned{type.version});
    return reader;
}

Result<void> RecordReader::find_children(uint64_t& sum) {
    for (size_t at = 0; at < rest_.size();) {
        const size_t left = rest_.size() - at;
        if (left < sizeof(RecordHeader)) return refuse("", "%zu bytes behind the last record", left);
        if (children_.size() == kMaxRecordsInGroup) return refuse("", "more than %zu records", kMaxRecordsInGroup);
        const RecordHeader child = header_at(rest_.subspan(at));
        const size_t size = sizeof child + size_t{child.length};
        if (size > left)
            return refuse("", "record '%s' has %zu bytes, %zu are left", code_text(child).c_str(), size, left);
        sum = add_child(sum, child);
        children_.push_back({at, false});
        at += size;
    }
    return {};
}

RecordHeader RecordReader::header_of(const Child& child) const {
    return header_at(rest_.subspan(child.start));
}

std::string RecordReader::path_of(const RecordHeader& header, const char* name) const {
    const std::string text = name ? std::string(name) : code_text(header);
    if (header.index == 0 && std::ranges::none_of(children_, [&](const Child& child) {
            const RecordHeader other = header_of(child);
            return memcmp(other.code, header.code, sizeof header.code) == 0 && other.index != 0;
        }))
        return path_ + "." + text;
    return path_ + "." + text + "[" + std::to_string(header.index) + "]";
}

RecordReader::Child* RecordReader::find(const RecordType& type, uint32_t index) {
    for (Child& child : children_) {
        const RecordHeader header = header_of(child);
        if (has_type(header, type) && header.index == index && !child.taken) return &child;
    }
    return nullptr;
}

Result<std::optional<RecordReader>> RecordReader::optional_record(const RecordType& type, uint32_t index) {
    if (!group_) return refuse("", "this record holds fields, not records");
    Child* const child = find(type, index);
    if (!child) return std::nullopt;
    const RecordHeader header = header_of(*child);
    if (header.version > type.version && !is_required(header)) return std::nullopt;
    child->taken = true;
    return TRY(
        enter(rest_.subspan(child->start, sizeof header + size_t{header.length}), path_of(header, type.name), type));
}

Result<RecordReader> RecordReader::record(const RecordType& type, uint32_t index) {
    auto found = TRY(optional_record(type, index));
    if (found) return *std::move(found);
    const std::string number = index == 0 ? "" : format("[%u]", index);
    return fail("%s.%s%s: the record is missing", path_.c_str(), type.name, number.c_str());
}

Result<uint32_t> RecordReader::count(const RecordType& type, uint32_t most) const {
    const auto count =
        std::ranges::count_if(children_, [&](const Child& child) { return has_type(header_of(child), type); });
    if (count > most) return refuse(type.name, "%zu records, at most %u are allowed", static_cast<size_t>(count), most);
    return static_cast<uint32_t>(count);
}

Result<std::span<const std::byte>> RecordReader::take(const char* field, size_t size) {
    if (group_) return refuse(field, "the record holds records, not fields");
    if (rest_.size() < size) return refuse(field, "%zu bytes, %zu are needed", rest_.size(), size);
    const auto taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
}

Result<void> RecordReader::check_range(const char* field, uint64_t value, uint64_t min, uint64_t max) const {
    if (value >= min && value <= max) return {};
    const unsigned long long values[] = {value, min, max};
    return refuse(field, "%llu is out of range, %llu to %llu", values[0], values[1], values[2]);
}

Result<bool> RecordReader::boolean(const char* field) {
    return TRY(u8(field, 0, 1)) != 0;
}

Result<void> RecordReader::bytes(const char* field, std::span<std::byte> into) {
    const auto taken = TRY(take(field, into.size()));
    if (!taken.empty()) memcpy(into.data(), taken.data(), taken.size());
    return {};
}

Result<std::span<const std::byte>> RecordReader::blob(const char* field, size_t max_size) {
    const size_t size = TRY(u32(field));
    if (size > max_size) return refuse(field, "%zu bytes, at most %zu are allowed", size, max_size);
    return take(field, size);
}

Result<std::string> RecordReader::text(const char* field, size_t max_size) {
    const auto content = TRY(blob(field, max_size));
    return std::string(reinterpret_cast<const char*>(content.data()), content.size());
}

Result<void> RecordReader::finish() const {
    if (!group_) {
        if (!rest_.empty()) return refuse("", "%zu bytes behind the last field", rest_.size());
        return {};
    }
    for (const Child& child : children_) {
        const RecordHeader header = header_of(child);
        if (child.taken || !is_required(header)) continue;
        return fail("%s: the record is required and this program does not know it", path_of(header, nullptr).c_str());
    }
    return {};
}

}  // namespace wisp
