// SPDX-License-Identifier: Apache-2.0
//
// drives, network-interfaces, vsock, and the rate limiters they share.
#include "vmm/config/decode_resources.h"

namespace wisp::config {

namespace {

Decoded<> read_cache_type(const Value& value, CacheType& out) {
    static constexpr const char* kNames[] = {"Unsafe", "Writeback"};
    out = static_cast<CacheType>(TRY(read_variant(value, kNames)));
    return {};
}

/// May be null, which is the default: an optional field in Firecracker.
Decoded<> read_io_engine(const Value& value, IoEngine& out) {
    if (value.is(Value::Kind::kNull)) return {};
    static constexpr const char* kNames[] = {"Async", "Sync"};
    out = static_cast<IoEngine>(TRY(read_variant(value, kNames)));
    return {};
}

/// A bool or a path that may be null, as if it were left out.
template <class T>
Decoded<> read_unless_null(const Value& value, T& out) {
    if (value.is(Value::Kind::kNull)) return {};
    return read(value, out);
}

// Not strict, unlike most: Firecracker takes unknown fields here.
constexpr Field kTokenBucketFields[] = {
    required<&TokenBucketConfig::size>("size"),
    optional<&TokenBucketConfig::one_time_burst>("one_time_burst"),
    required<&TokenBucketConfig::refill_time_ms>("refill_time"),
};

constexpr Field kRateLimiterFields[] = {
    optional<&RateLimiterConfig::bandwidth>("bandwidth"),
    optional<&RateLimiterConfig::ops>("ops"),
};

constexpr Field kDriveFields[] = {
    required<&Drive::drive_id>("drive_id"),
    optional<&Drive::partuuid>("partuuid"),
    required<&Drive::is_root_device>("is_root_device"),
    with<&Drive::cache_type, read_cache_type>("cache_type", false),
    with<&Drive::is_read_only, read_unless_null<bool>>("is_read_only", false),
    with<&Drive::path_on_host, read_unless_null<std::string>>("path_on_host", false),
    optional<&Drive::rate_limiter>("rate_limiter"),
    with<&Drive::io_engine, read_io_engine>("io_engine", false),
    optional<&Drive::socket>("socket"),
    optional<&Drive::direct>("direct"),
};

constexpr Field kDrivePatchFields[] = {
    required<&DrivePatch::drive_id>("drive_id"),
    optional<&DrivePatch::path_on_host>("path_on_host"),
    optional<&DrivePatch::rate_limiter>("rate_limiter"),
};

constexpr Field kNetworkInterfaceFields[] = {
    required<&NetworkInterface::iface_id>("iface_id"),
    required<&NetworkInterface::host_dev_name>("host_dev_name"),
    optional<&NetworkInterface::guest_mac>("guest_mac"),
    optional<&NetworkInterface::mtu>("mtu"),
    optional<&NetworkInterface::rx_rate_limiter>("rx_rate_limiter"),
    optional<&NetworkInterface::tx_rate_limiter>("tx_rate_limiter"),
};

constexpr Field kNetworkInterfacePatchFields[] = {
    required<&NetworkInterfacePatch::iface_id>("iface_id"),
    optional<&NetworkInterfacePatch::rx_rate_limiter>("rx_rate_limiter"),
    optional<&NetworkInterfacePatch::tx_rate_limiter>("tx_rate_limiter"),
};

constexpr Field kVsockFields[] = {
    optional<&Vsock::vsock_id>("vsock_id"),
    required<&Vsock::guest_cid>("guest_cid"),
    required<&Vsock::uds_path>("uds_path"),
};

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

}  // namespace

Decoded<> read(const Value& value, TokenBucketConfig& out) {
    return read_object(value, {"TokenBucketConfig", kTokenBucketFields, Schema::Unknown::kIgnore}, &out);
}

Decoded<> read(const Value& value, RateLimiterConfig& out) {
    return read_object(value, {"RateLimiterConfig", kRateLimiterFields}, &out);
}

Decoded<> read(const Value& value, Drive& out) {
    return read_object(value, {"BlockDeviceConfig", kDriveFields}, &out);
}

Decoded<> read(const Value& value, DrivePatch& out) {
    return read_object(value, {"BlockDeviceUpdateConfig", kDrivePatchFields}, &out);
}

Decoded<> read(const Value& value, MacAddress& out) {
    const std::string text = TRY(read_text(value, "a string"));
    const char* const invalid = "The provided MAC address is invalid.";
    if (text.size() != 17) return fault_after(value, invalid);
    for (size_t i = 0; i < out.size(); ++i) {
        const int high = hex_digit(text[3 * i]);
        const int low = hex_digit(text[3 * i + 1]);
        if (high < 0 || low < 0 || (i > 0 && text[3 * i - 1] != ':')) return fault_after(value, invalid);
        out[i] = static_cast<uint8_t>(high << 4 | low);
    }
    return {};
}

Decoded<> read(const Value& value, NetworkInterface& out) {
    return read_object(value, {"NetworkInterfaceConfig", kNetworkInterfaceFields}, &out);
}

Decoded<> read(const Value& value, NetworkInterfacePatch& out) {
    return read_object(value, {"NetworkInterfaceUpdateConfig", kNetworkInterfacePatchFields}, &out);
}

Decoded<> read(const Value& value, Vsock& out) {
    return read_object(value, {"VsockDeviceConfig", kVsockFields}, &out);
}

std::string to_string(const MacAddress& mac) {
    return format("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

}  // namespace wisp::config
