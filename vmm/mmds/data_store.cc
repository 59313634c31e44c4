// SPDX-License-Identifier: Apache-2.0
#include "vmm/mmds/data_store.h"

#include <algorithm>
#include <charconv>

#include "vmm/config/json.h"

namespace wisp::mmds {

namespace {

using config::Member;
using config::Value;
using Kind = Value::Kind;

const Value& empty_object() {
    static const Value value = [] {
        Value object;
        object.kind = Kind::kObject;
        return object;
    }();
    return value;
}

bool by_name(const Member& a, const Member& b) {
    return a.name < b.name;
}

/// Sorts members by name, as they are shown, and of a member given twice keeps the last.
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

/// RFC 7396, both sides sorted.
void merge(Value& target, const Value& patch) {
    if (!patch.is(Kind::kObject)) {
        target = patch;
        return;
    }
    if (!target.is(Kind::kObject)) target = empty_object();
    for (const Member& change : patch.members) {
        auto place = std::lower_bound(target.members.begin(), target.members.end(), change, by_name);
        const bool present = place != target.members.end() && place->name == change.name;
        if (change.value.is(Kind::kNull)) {
            if (present) target.members.erase(place);
            continue;
        }
        if (!present) {
            place = target.members.emplace(place);
            place->name = change.name;
        }
        merge(place->value, change.value);
    }
}

/// One step of a path.
const Value* step(const Value& value, std::string_view name) {
    if (value.is(Kind::kObject)) return value.find(std::string(name).c_str());
    if (!value.is(Kind::kArray)) return nullptr;
    size_t index = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
    const bool number =
        error == std::errc() && end == name.data() + name.size() && (name.size() == 1 || name[0] != '0');
    return number && index < value.items.size() ? &value.items[index] : nullptr;
}

}  // namespace

Result<void> DataStore::check_size(const Value& data) const {
    if (config::to_json(data).size() <= limit_) return {};
    return std::unexpected(Error{"The MMDS patch request doesn't fit.", EFBIG});
}

Result<void> DataStore::put(Value data) {
    normalize(data);
    TRY(check_size(data));
    data_ = std::move(data);
    return {};
}

Result<void> DataStore::patch(Value patch) {
    if (!data_) return fail("The MMDS data store is not initialized.");
    Value next = *data_;
    normalize(patch);
    merge(next, patch);
    TRY(check_size(next));
    data_ = std::move(next);
    return {};
}

std::string DataStore::to_json() const {
    return data_ ? config::to_json(*data_) : "{}";
}

const Value* DataStore::find(std::string_view path) const {
    const Value* value = data_ ? &*data_ : &empty_object();
    while (value && !path.empty()) {
        if (path[0] == '/') {
            path.remove_prefix(1);
            continue;
        }
        const std::string_view name = path.substr(0, path.find('/'));
        value = step(*value, name);
        path.remove_prefix(name.size());
    }
    return value;
}

void DataStore::save(RecordWriter& writer) const {
    writer.boolean(data_.has_value());
    writer.text(data_ ? to_json() : "");
}

Result<void> DataStore::restore(RecordReader& reader) {
    const bool has_data = TRY(reader.boolean("has_data"));
    const std::string text = TRY(reader.text("json", limit_));
    TRY(reader.finish());
    if (!has_data) {
        data_.reset();
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
