// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/value.h"

#include <algorithm>

#include "vmm/config/json_writer.h"

namespace wisp::config {

const Value* Value::find(const char* name) const {
    for (const Member& member : members)
        if (member.name == name) return &member.value;
    return nullptr;
}

const Value* Value::find_fault() const {
    if (kind == Kind::kFault) return this;
    for (const Member& member : members)
        if (const Value* fault = member.value.find_fault()) return fault;
    for (const Value& item : items)
        if (const Value* fault = item.find_fault()) return fault;
    return nullptr;
}

Position Document::position(Place place) const {
    if (place == kNoPlace) return {};
    if (syntax == Syntax::kToml) return positions[place];
    const uint32_t offset = std::min(place, size);
    const auto next_line = std::upper_bound(line_starts.begin(), line_starts.end(), offset);
    return {static_cast<uint32_t>(next_line - line_starts.begin()), offset - *(next_line - 1)};
}

Error Document::error(DocumentFault fault) const {
    const Position where = position(fault.place);
    if (where.line != 0) fault.message += format(" at line %u column %u", where.line, where.column);
    return Error{std::move(fault.message), 0};
}

namespace {

void write(const Value& value, JsonWriter& out) {
    switch (value.kind) {
        case Value::Kind::kNull:
        case Value::Kind::kFault:
            out.null();
            break;
        case Value::Kind::kBool:
            out.boolean(value.boolean);
            break;
        case Value::Kind::kUnsigned:
            out.number(value.number);
            break;
        case Value::Kind::kSigned:
            out.signed_number(value.as_signed());
            break;
        case Value::Kind::kFloat:
            out.real(value.real);
            break;
        case Value::Kind::kString:
            out.string(value.text);
            break;
        case Value::Kind::kArray:
            out.begin_array();
            for (const Value& item : value.items) write(item, out);
            out.end_array();
            break;
        case Value::Kind::kObject:
            out.begin_object();
            for (const Member& member : value.members) {
                out.key(member.name);
                write(member.value, out);
            }
            out.end_object();
            break;
    }
}

}  // namespace

std::string to_json(const Value& value) {
    JsonWriter out;
    write(value, out);
    return out.take();
}

}  // namespace wisp::config
