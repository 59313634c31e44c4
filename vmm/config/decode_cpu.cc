// SPDX-License-Identifier: Apache-2.0
//
// cpu-config: a custom CPU template. Numbers are strings with a prefix ("0x1f", "0b11"), bit patterns are strings of
// 0, 1 and x, where x leaves the bit as it is.
#include <charconv>

#include "vmm/config/decode_resources.h"

namespace wisp::config {

namespace {

Decoded<> read_hex_or_binary(const Value& value, uint32_t& out) {
    const std::string text = TRY(read_text(value, "a string"));
    const bool hex = text.starts_with("0x");
    if (!hex && !text.starts_with("0b"))
        return fault_after(
            value,
            "No supported number system prefix found in value [" + text +
                "]. Make sure to prefix the number with '0x' for hexadecimal numbers or '0b' for binary numbers.");
    const char* const first = text.data() + 2;
    const char* const last = text.data() + text.size();
    const auto [stopped, error] = std::from_chars(first, last, out, hex ? 16 : 2);
    const char* reason = nullptr;
    if (first == last)
        reason = "Empty";
    else if (stopped != last || error == std::errc::invalid_argument)
        reason = "InvalidDigit";
    else if (error != std::errc())
        reason = "PosOverflow";
    if (!reason) return {};
    return fault_after(value, "Failed to parse string [" + text +
                                  "] as a number for CPU template - ParseIntError { kind: " + reason + " }");
}

/// The last character is bit 0; `_` only groups. Bits that are not mentioned stay as they are.
Decoded<RegisterModifier> read_bitmap(const Value& value, unsigned bits) {
    const std::string text = TRY(read_text(value, "a string"));
    const std::string context = "Failed to parse string [" + text + "] as a bitmap - ";
    const std::string_view pattern = std::string_view(text).substr(text.starts_with("0b") ? 2 : 0);
    RegisterModifier modifier;
    unsigned bit = 0;
    for (size_t i = pattern.size(); i-- > 0;) {
        const char c = pattern[i];
        if (c == '_') continue;
        if (c != '0' && c != '1' && c != 'x')
            return fault_after(value, context + format("unknown character: %u", static_cast<unsigned char>(c)));
        if (bit == bits) return fault_after(value, context + "string is too long");
        modifier.filter |= static_cast<uint64_t>(c != 'x') << bit;
        modifier.value |= static_cast<uint64_t>(c == '1') << bit;
        ++bit;
    }
    return modifier;
}

using CpuidPair = std::pair<CpuidRegister, RegisterModifier>;

Decoded<> read_register(const Value& value, CpuidRegister& out) {
    static constexpr const char* kNames[] = {"eax", "ebx", "ecx", "edx"};
    const std::string text = TRY(read_text(value, "a string"));
    for (size_t i = 0; i < std::size(kNames); ++i) {
        if (text != kNames[i]) continue;
        out = static_cast<CpuidRegister>(i);
        return {};
    }
    return fault_after(value, "Invalid CPUID register. Must be one of [eax, ebx, ecx, edx]");
}

Decoded<> read_bitmap32(const Value& value, RegisterModifier& out) {
    out = TRY(read_bitmap(value, 32));
    return {};
}

Decoded<> read_bitmap64(const Value& value, RegisterModifier& out) {
    out = TRY(read_bitmap(value, 64));
    return {};
}

constexpr Field kCpuidRegisterFields[] = {
    with<&CpuidPair::first, read_register>("register", true),
    with<&CpuidPair::second, read_bitmap32>("bitmap", true),
};

}  // namespace

// Not strict below the top: Firecracker takes unknown fields in modifiers.
Decoded<> read(const Value& value, CpuidPair& out) {
    return read_object(value, {"CpuidRegisterModifier", kCpuidRegisterFields, Schema::Unknown::kIgnore}, &out);
}

namespace {

constexpr Field kCpuidLeafFields[] = {
    with<&CpuidLeafModifier::leaf, read_hex_or_binary>("leaf", true),
    with<&CpuidLeafModifier::subleaf, read_hex_or_binary>("subleaf", true),
    required<&CpuidLeafModifier::flags>("flags"),
    required<&CpuidLeafModifier::modifiers>("modifiers"),
};

constexpr Field kMsrFields[] = {
    with<&MsrModifier::addr, read_hex_or_binary>("addr", true),
    with<&MsrModifier::bitmap, read_bitmap64>("bitmap", true),
};

constexpr Field kCpuConfigFields[] = {
    optional<&CpuConfig::kvm_capabilities>("kvm_capabilities"),
    optional<&CpuConfig::cpuid_modifiers>("cpuid_modifiers"),
    optional<&CpuConfig::msr_modifiers>("msr_modifiers"),
};

}  // namespace

Decoded<> read(const Value& value, CpuidLeafModifier& out) {
    return read_object(value, {"CpuidLeafModifier", kCpuidLeafFields, Schema::Unknown::kIgnore}, &out);
}

Decoded<> read(const Value& value, MsrModifier& out) {
    return read_object(value, {"RegisterModifier", kMsrFields, Schema::Unknown::kIgnore}, &out);
}

Decoded<> read(const Value& value, KvmCapability& out) {
    const std::string text = TRY(read_text(value, "a string"));
    out.remove = text.starts_with('!');
    const char* const first = text.data() + out.remove;
    const char* const last = text.data() + text.size();
    const auto [stopped, error] = std::from_chars(first, last, out.number);
    const char* reason = nullptr;
    if (first == last)
        reason = "cannot parse integer from empty string";
    else if (stopped != last || error == std::errc::invalid_argument)
        reason = "invalid digit found in string";
    else if (error != std::errc())
        reason = "number too large to fit in target type";
    if (!reason) return {};
    return fault_after(
        value, "Failed to parse string [" + text + "] as a kvm capability - can not convert to numeric: " + reason);
}

Decoded<> read(const Value& value, CpuConfig& out) {
    return read_object(value, {"CustomCpuTemplate", kCpuConfigFields}, &out);
}

}  // namespace wisp::config
