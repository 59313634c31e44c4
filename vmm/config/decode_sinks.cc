// SPDX-License-Identifier: Apache-2.0
//
// logger, metrics, serial, mmds-config.
#include <arpa/inet.h>

#include <strings.h>
#include <cstring>
#include <string_view>
#include <unordered_map>

#include "vmm/config/decode_resources.h"

namespace wisp::config {

namespace {

Decoded<> read_level(const Value& value, LogLevel& out) {
    const std::string name = TRY(read_text(value, "a string"));
    const std::optional<LogLevel> level = parse_log_level(name);
    if (!level) return fault_after(value, "Invalid LevelFilter");
    out = *level;
    return {};
}

/// Any keys, each with a string; of a key that is given twice, the last one holds.
Decoded<> read_properties(const Value& value, std::vector<std::pair<std::string, std::string>>& out) {
    if (value.is(Value::Kind::kNull)) return {};
    if (!value.is(Value::Kind::kObject)) return wrong_type(value, "a map");
    out.clear();
    for (const Member& member : value.members) {
        std::string text;
        TRY(read(member.value, text));
        out.emplace_back(member.name, std::move(text));
    }
    if (!value.items.empty()) return fault_in(value.items[0], value.items[0].text);
    std::unordered_map<std::string_view, size_t> last;
    for (size_t i = 0; i < value.members.size(); ++i) last[value.members[i].name] = i;
    size_t index = 0;
    std::erase_if(out, [&](const auto&) {
        const size_t at = index++;
        return last[value.members[at].name] != at;
    });
    return {};
}

Decoded<> read_mmds_version(const Value& value, MmdsVersion& out) {
    static constexpr const char* kNames[] = {"V1", "V2"};
    out = static_cast<MmdsVersion>(TRY(read_variant(value, kNames)));
    return {};
}

Decoded<> read_ipv4(const Value& value, Ipv4Address& out) {
    const std::string text = TRY(read_text(value, "IPv4 address"));
    if (text.size() != strlen(text.c_str()) || inet_pton(AF_INET, text.c_str(), out.data()) != 1)
        return fault_in(value, "invalid IPv4 address syntax");
    return {};
}

constexpr Field kLoggerFields[] = {
    with<&Logger::log_path, read_path>("log_path", false),
    with<&Logger::level, read_level>("level", false),
    optional<&Logger::show_level>("show_level"),
    optional<&Logger::show_log_origin>("show_log_origin"),
    optional<&Logger::module>("module"),
};

constexpr Field kMetricsFields[] = {
    with<&Metrics::metrics_path, read_path>("metrics_path", true),
    optional<&Metrics::emit_id>("emit_id"),
    with<&Metrics::properties, read_properties>("properties", false),
};

constexpr Field kSerialFields[] = {
    with<&Serial::serial_out_path, read_path>("serial_out_path", false),
    optional<&Serial::rate_limiter>("rate_limiter"),
};

constexpr Field kMmdsFields[] = {
    with<&MmdsConfig::version, read_mmds_version>("version", false),
    required<&MmdsConfig::network_interfaces>("network_interfaces"),
    with<&MmdsConfig::ipv4_address, read_ipv4>("ipv4_address", false),
    optional<&MmdsConfig::imds_compat>("imds_compat"),
};

}  // namespace

Decoded<> read_path(const Value& value, std::string& out) {
    out = TRY(read_text(value, "path string"));
    return {};
}

Decoded<> read(const Value& value, Logger& out) {
    return read_object(value, {"LoggerConfig", kLoggerFields}, &out);
}

Decoded<> read(const Value& value, Metrics& out) {
    return read_object(value, {"MetricsConfig", kMetricsFields, Schema::Unknown::kIgnore}, &out);
}

Decoded<> read(const Value& value, Serial& out) {
    return read_object(value, {"SerialConfig", kSerialFields}, &out);
}

Decoded<> read(const Value& value, MmdsConfig& out) {
    return read_object(value, {"MmdsConfig", kMmdsFields}, &out);
}

std::optional<LogLevel> parse_log_level(std::string_view name) {
    static constexpr struct {
        const char* name;
        LogLevel level;
    } kLevels[] = {{"off", LogLevel::kOff},         {"error", LogLevel::kError}, {"warn", LogLevel::kWarning},
                   {"warning", LogLevel::kWarning}, {"info", LogLevel::kInfo},   {"debug", LogLevel::kDebug},
                   {"trace", LogLevel::kTrace}};
    for (const auto& entry : kLevels)
        if (name.size() == strlen(entry.name) && strncasecmp(name.data(), entry.name, name.size()) == 0)
            return entry.level;
    return std::nullopt;
}

std::string to_string(const Ipv4Address& address) {
    return format("%u.%u.%u.%u", address[0], address[1], address[2], address[3]);
}

}  // namespace wisp::config
