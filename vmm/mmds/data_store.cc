// SPDX-License-Identifier: Apache-2.0
#include "vmm/mmds/data_store.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "vmm/config/json.h"

namespace wisp::mmds {

namespace {

using config::Member;
using config::Value;
using Kind = Value::Kind;

bool by_name(const Member& a, const Member& b) {
    return a.name < b.name;
}

/// Sorts members by name, and of a member that is given twice keeps the last.
void normalize(Value& value) {
    std::vector<Member>& members = value.members;
    std::stable_sort(members.begin(), members.end(), by_name);
    size_t kept = 0;
    for (size_t i = 0; i < members.size(); ++i) {
        if (i + 1 < members.size() && members[i].name == members[i + 1].name) continue;
        if (kept != i) members[kept] = std::move(members[i]);
        normalize(members[kept++].value);
    }
    members.resize(kept);
    for (Value& item : value.items) normalize(item);
}

/// RFC 7396. Both sides are sorted, and so is the result.
void merge(Value& target, const Value& patch) {
    if (!patch.is(Kind::kObject)) {
        target = patch;
        return;
    }
    if (!target.is(Kind::kObject)) {
        target = {};
        target.kind = Kind::kObject;
    }
    std::vector<Member> merged;
    merged.reserve(target.members.size() + patch.members.size());
    auto old = target.members.begin();
    for (const Member& change : patch.members) {
        while (old != target.members.end() && by_name(*old, change)) merged.push_back(std::move(*old++));
        Member member;
        member.name = change.name;
        if (old != target.members.end() && old->name == change.name) member = std::move(*old++);
        if (change.value.is(Kind::kNull)) continue;
        merge(member.value, change.value);
        merged.push_back(std::move(member));
    }
    std::move(old, target.members.end(), std::back_inserter(merged));
    target.members = std::move(merged);
}

/// A segment of a JSON pointer without its escapes: "~1" is a slash, "~0" a tilde (RFC 6901, section 4).
std::string unescape(std::string_view segment) {
    std::string out;
    for (size_t i = 0; i < segment.size(); ++i) {
        const char next = i + 1 < segment.size() ? segment[i + 1] : '\0';
        const bool escape = segment[i] == '~' && (next == '0' || next == '1');
        out += escape ? (next == '0' ? '~' : '/') : segment[i];
        i += escape;
    }
    return out;
}

/// One step of a path.
const Value* step(const Value& value, std::string_view segment) {
    if (value.is(Kind::kObject)) return value.find(unescape(segment).c_str());
    if (!value.is(Kind::kArray)) return nullptr;
    size_t index = 0;
    const char* const end = segment.data() + segment.size();
    const auto [stop, error] = std::from_chars(segment.data(), end, index);
    const bool number = error == std::errc() && stop == end && (segment.size() == 1 || segment[0] != '0');
    return number && index < value.items.size() ? &value.items[index] : nullptr;
}

}  // namespace

Result<void> DataStore::publish(Value data) {
    if (config::to_json(data).size() > limit_)
        return std::unexpected(Error{"The MMDS patch request doesn't fit.", EFBIG});
    auto document = std::make_shared<const Value>(std::move(data));
    const std::lock_guard lock(mutex_);
    document_.swap(document);  // the old one is released after the lock, if no reader holds it
    return {};
}

Result<void> DataStore::put(Value data) {
    normalize(data);
    return publish(std::move(data));
}

Result<void> DataStore::patch(Value patch) {
    const auto old = document();
    if (!old) return fail("The MMDS data store is not initialized.");
    Value next = *old;
    normalize(patch);
    merge(next, patch);
    return publish(std::move(next));
}

std::string DataStore::to_json() const {
    const auto current = document();
    return current && !current->is(Kind::kNull) ? config::to_json(*current) : "{}";
}

std::shared_ptr<const Value> DataStore::document() const {
    const std::lock_guard lock(mutex_);
    return document_;
}

const Value* find(const Value& document, std::string_view path) {
    const Value* value = &document;
    while (value && !path.empty()) {
        const std::string_view segment = path.substr(0, path.find('/'));
        if (!segment.empty()) value = step(*value, segment);
        path.remove_prefix(std::min(path.size(), segment.size() + 1));
    }
    return value;
}

void DataStore::save(RecordWriter& writer) const {
    const auto data = document();
    writer.boolean(data != nullptr);
    writer.text(data ? config::to_json(*data) : "");
}

Result<void> DataStore::restore(RecordReader& reader) {
    const bool has_data = TRY(reader.boolean("has_data"));
    const std::string text = TRY(reader.text("json", limit_));
    TRY(reader.finish());
    if (!has_data) {
        const std::lock_guard lock(mutex_);
        document_.reset();
        return {};
    }
    auto value = config::parse_json_strict(text);
    if (!value) return reader.refuse("json", "%s", value.error().message.c_str());
    return put(*std::move(value));
}

std::optional<std::string> to_imds_text(const Value& value) {
    if (value.is(Kind::kString)) return value.text;
    if (!value.is(Kind::kObject)) return std::nullopt;
    std::string out;
    for (const Member& member : value.members) {
        if (!out.empty()) out += '\n';
        out += member.name;
        if (member.value.is(Kind::kObject)) out += '/';
    }
    return out;
}

}  // namespace wisp::mmds
