// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/toml.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_FLOAT_CHARCONV 1  // its other way to read numbers is a string stream, which needs locales
#define TOML_ENABLE_WINDOWS_COMPAT 0
// One of its assertions does not hold for "[=", which the code after it refuses well.
#define TOML_ASSERT(expression) static_assert(true)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include <toml++/toml.h>
#pragma GCC diagnostic pop

namespace wisp::config {

namespace {

using Kind = Value::Kind;

Position position(const toml::source_position& place) {
    return {place.line, place.column};
}

std::string two_digits(unsigned number) {
    return format("%02u", number);
}

std::string to_text(const toml::date& date) {
    return format("%04u-%02u-%02u", date.year, date.month, date.day);
}
std::string to_text(const toml::time& time) {
    return two_digits(time.hour) + ":" + two_digits(time.minute) + ":" + two_digits(time.second);
}
std::string to_text(const toml::date_time& moment) {
    return to_text(moment.date) + "T" + to_text(moment.time);
}

/// toml++'s nodes to a tree. The places of the tree are indices into `positions`.
class Converter {
public:
    explicit Converter(std::vector<Position>& positions) : positions_(positions) {}

    Value convert(const toml::node& node);

private:
    void convert_table(const toml::table& table, Value& out);
    Place place(const toml::source_position& where) {
        positions_.push_back(position(where));
        return static_cast<Place>(positions_.size() - 1);
    }

    std::vector<Position>& positions_;
};

void Converter::convert_table(const toml::table& table, Value& out) {
    out.kind = Kind::kObject;
    out.members.reserve(table.size());
    for (const auto& [key, node] : table) {
        Member& member = out.members.emplace_back();
        member.name = key.str();
        member.after = place(key.source().begin);
        member.present = true;
        member.value = convert(node);
    }
    // toml++ sorts keys; the decoder wants them in the order of the text.
    const auto where = [&](const Member& member) {
        return std::pair(positions_[member.after].line, positions_[member.after].column);
    };
    std::sort(out.members.begin(), out.members.end(),
              [&](const Member& a, const Member& b) { return where(a) < where(b); });
}

Value Converter::convert(const toml::node& node) {
    Value out;
    out.syntax = Syntax::kToml;
    out.begin = out.end = out.after = place(node.source().begin);
    if (const auto* table = node.as_table()) {
        convert_table(*table, out);
    } else if (const auto* array = node.as_array()) {
        out.kind = Kind::kArray;
        for (const toml::node& item : *array) out.items.push_back(convert(item));
    } else if (const auto* text = node.as_string()) {
        out.kind = Kind::kString;
        out.text = text->get();
    } else if (const auto* integer = node.as_integer()) {
        out.kind = integer->get() < 0 ? Kind::kSigned : Kind::kUnsigned;
        out.number = static_cast<uint64_t>(integer->get());
    } else if (const auto* real = node.as_floating_point()) {
        out.kind = Kind::kFloat;
        out.real = real->get();
    } else if (const auto* boolean = node.as_boolean()) {
        out.kind = Kind::kBool;
        out.boolean = boolean->get();
    } else {
        out.kind = Kind::kString;
        if (const auto* date = node.as_date()) out.text = to_text(date->get());
        if (const auto* time = node.as_time()) out.text = to_text(time->get());
        if (const auto* moment = node.as_date_time()) out.text = to_text(moment->get());
    }
    return out;
}

Document fault_at(Position where, std::string text) {
    Document document;
    document.syntax = Syntax::kToml;
    document.positions = {where};
    Value& fault = document.root;
    fault.kind = Kind::kFault;
    fault.syntax = Syntax::kToml;
    fault.text = std::move(text);
    fault.begin = fault.end = fault.after = 0;
    return document;
}

// A TOML text has no control characters but tabs and line ends. They are searched for here, because toml++ ends the
// process at some of them.
std::optional<Position> find_control_character(std::string_view text) {
    Position place{1, 1};
    for (const char letter : text) {
        if ((static_cast<unsigned char>(letter) < 0x20 && letter != '\t' && letter != '\n' && letter != '\r') ||
            letter == 0x7f)
            return place;
        place = letter == '\n' ? Position{place.line + 1, 1} : Position{place.line, place.column + 1};
    }
    return std::nullopt;
}

}  // namespace

Document parse_toml(std::string_view text) {
    if (const auto place = find_control_character(text)) return fault_at(*place, "control character in the text");
    Document document;
    document.syntax = Syntax::kToml;
    const toml::parse_result result = toml::parse(text);
    if (result) {
        document.root = Converter(document.positions).convert(result.table());
        return document;
    }
    return fault_at(position(result.error().source().begin), std::string(result.error().description()));
}

}  // namespace wisp::config
