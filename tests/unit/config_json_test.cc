// SPDX-License-Identifier: Apache-2.0
//
// The texts with which Firecracker's clients are told what is wrong with a body. Each expectation was observed on
// Firecracker 1.17.
#include <catch2/catch.hpp>

#include "vmm/config/decode_resources.h"
#include "vmm/config/json.h"

using namespace wisp;
using namespace wisp::config;

namespace {

template <class T>
std::string message(const std::string& text) {
    const Result<T> result = decode<T>(parse_json(text));
    return result ? "ok" : result.error().message;
}

struct Case {
    std::string text;
    std::string expected;
};

}  // namespace

TEST_CASE("a machine config is read, or refused in serde_json's words") {
    const Case cases[] = {
        {R"({"vcpu_count":1,"mem_size_mib":128})", "ok"},
        {R"({"vcpu_count":2,"mem_size_mib":129,"cpu_template":null})", "ok"},
        {R"({})", "missing field `vcpu_count` at line 1 column 2"},
        {R"({"vcpu_count":1})", "missing field `mem_size_mib` at line 1 column 16"},
        {R"({"vcpu_count":300,"mem_size_mib":128})", "invalid value: integer `300`, expected u8 at line 1 column 17"},
        {R"({"vcpu_count":-1,"mem_size_mib":128})", "invalid value: integer `-1`, expected u8 at line 1 column 16"},
        {R"({"vcpu_count":1.5,"mem_size_mib":128})",
         "invalid type: floating point `1.5`, expected u8 at line 1 column 17"},
        {R"({"vcpu_count":"x","mem_size_mib":128})", "invalid type: string \"x\", expected u8 at line 1 column 17"},
        {R"({"vcpu_count":null,"mem_size_mib":128})", "invalid type: null, expected u8 at line 1 column 18"},
        {R"({"vcpu_count":{},"mem_size_mib":128})", "invalid type: map, expected u8 at line 1 column 14"},
        {R"({"vcpu_count":[],"mem_size_mib":128})", "invalid type: sequence, expected u8 at line 1 column 14"},
        {R"({"vcpu_count":1,"mem_size_mib":-1})", "invalid value: integer `-1`, expected usize at line 1 column 33"},
        {R"({"vcpu_count":1,"mem_size_mib":99999999999999999999})",
         "invalid type: floating point `1e+20`, expected usize at line 1 column 51"},
        {R"({"vcpu_count":2,"mem_size_mib":129,"huge_pages":"foo"})",
         "unknown variant `foo`, expected one of `None`, `Transparent`, `2M` at line 1 column 53"},
        {R"({"vcpu_count":2,"mem_size_mib":129,"huge_pages":5})", "expected value at line 1 column 49"},
        {R"({"vcpu_count":2,"mem_size_mib":129,"huge_pages":null})", "expected value at line 1 column 49"},
        {R"({"vcpu_count":2,"mem_size_mib":129,"cpu_template":"foo"})",
         "unknown variant `foo`, expected one of `C3`, `T2`, `T2S`, `None`, `T2CL`, `T2A` at line 1 column 55"},
        {R"({"vcpu_count":2,"mem_size_mib":129,"foo":"None"})",
         "unknown field `foo`, expected one of `vcpu_count`, `mem_size_mib`, `smt`, `cpu_template`, "
         "`track_dirty_pages`, "
         "`huge_pages` at line 1 column 40"},
        {R"({"vcpu_count":2,"mem_size_mib":129,"vcpu_count":1})", "duplicate field `vcpu_count` at line 1 column 47"},
        {R"({"vcpu_count":2,"mem_size_mib":129,"smt":0})",
         "invalid type: integer `0`, expected a boolean at line 1 column 42"},
        {R"({"vcpu_count":2,"mem_size_mib":129,"smt":null})",
         "invalid type: null, expected a boolean at line 1 column 45"},
        {"5", "invalid type: integer `5`, expected struct MachineConfig at line 1 column 1"},
        {"\"x\"", "invalid type: string \"x\", expected struct MachineConfig at line 1 column 3"},
        {"null", "invalid type: null, expected struct MachineConfig at line 1 column 4"},
    };
    for (const Case& one : cases) CHECK(message<MachineConfig>(one.text) == one.expected);
}

TEST_CASE("a syntax error is told where it stands, unless an earlier fault comes first") {
    const Case cases[] = {
        {"", "EOF while parsing a value at line 1 column 0"},
        {"  \n ", "EOF while parsing a value at line 2 column 1"},
        {"{", "EOF while parsing an object at line 1 column 1"},
        {R"({"a":)", "EOF while parsing a value at line 1 column 5"},
        {R"({"a":1,)", "EOF while parsing a value at line 1 column 7"},
        {R"({"a":1,})", "trailing comma at line 1 column 8"},
        {R"({"a":1 "b":2})", "expected `,` or `}` at line 1 column 8"},
        {R"({"a" 1})", "expected `:` at line 1 column 6"},
        {R"({5:1})", "key must be a string at line 1 column 2"},
        {R"({"a":x})", "expected value at line 1 column 6"},
        {R"({"a":nul})", "expected ident at line 1 column 9"},
        {R"({"a":01})", "invalid number at line 1 column 7"},
        {R"({"a":1.})", "invalid number at line 1 column 8"},
        {R"({"a":-})", "invalid number at line 1 column 7"},
        {R"({"a":1e999})", "number out of range at line 1 column 10"},
        {R"({"a":"x)", "EOF while parsing a string at line 1 column 7"},
        {R"({"a":"\x"})", "invalid escape at line 1 column 8"},
        {R"({"a":"\u12g4"})", "invalid escape at line 1 column 12"},
        {R"({"a":"\ud800x"})", "unexpected end of hex escape at line 1 column 13"},
        {"{\"a\":\"\x01\"}", "control character (\\u0000-\\u001F) found while parsing a string at line 1 column 6"},
        {"[1", "EOF while parsing a list at line 1 column 2"},
        {"[", "EOF while parsing a list at line 1 column 1"},
        {"[1,", "EOF while parsing a value at line 1 column 3"},
        {"[1,]", "trailing comma at line 1 column 4"},
        {"[1 2]", "expected `,` or `]` at line 1 column 4"},
        {"[1,,2]", "expected value at line 1 column 4"},
        {"{} x", "trailing characters at line 1 column 4"},
        {"{}\n{", "trailing characters at line 2 column 1"},
        {std::string(127, '[') + std::string(127, ']'), "ok"},
        {std::string(128, '['), "recursion limit exceeded at line 1 column 128"},
        {std::string("\"\0\"", 3),
         "control character (\\u0000-\\u001F) found while parsing a string at line 1 column 1"},
        {"\"\xff\"", "invalid unicode code point at line 1 column 3"},
    };
    for (const Case& one : cases) {
        const Result<Value> result = parse_json_strict(one.text);
        CHECK((result ? "ok" : result.error().message) == one.expected);
    }
    CHECK(message<Action>(R"({"foo":1, bad)") == "unknown field `foo`, expected `action_type` at line 1 column 6");
    CHECK(message<Action>("{\n  \"action_type\": \"FlushMetrics\",\n}") == "trailing comma at line 3 column 1");
    CHECK(message<Action>(R"({"action_type":"FlushMetrics"} x)") == "trailing characters at line 1 column 32");
    CHECK(message<Action>("{} x") == "missing field `action_type` at line 1 column 2");
}

TEST_CASE("devices and limiters are refused in the same words") {
    CHECK(message<Drive>(
              R"({"drive_id":"a","is_root_device":true,"path_on_host":"/d","io_engine":null,"direct":true})") == "ok");
    CHECK(message<Drive>(R"({"drive_id":"c","is_root_device":5})") ==
          "invalid type: integer `5`, expected a boolean at line 1 column 34");
    CHECK(message<Drive>(R"({"drive_id":"a","is_root_device":true,"io_engine":"x"})") ==
          "unknown variant `x`, expected `Async` or `Sync` at line 1 column 53");
    CHECK(message<Drive>(R"({"drive_id":"a","rate_limiter":{"bandwidth":{}}})") ==
          "missing field `size` at line 1 column 46");
    CHECK(message<Drive>(R"({"drive_id":"a","rate_limiter":{"bandwidth":5}})") ==
          "invalid type: integer `5`, expected struct TokenBucketConfig at line 1 column 45");
    CHECK(message<Drive>(R"({"drive_id":"a","rate_limiter":{"foo":5}})") ==
          "unknown field `foo`, expected `bandwidth` or `ops` at line 1 column 37");
    CHECK(message<RateLimiterConfig>(R"({"ops":{"size":10,"refill_time":10,"foo":[1]}})") == "ok");
    CHECK(message<NetworkInterface>(R"({"iface_id":"e","host_dev_name":"lo","guest_mac":"x"})") ==
          "The provided MAC address is invalid. at line 1 column 53");
    CHECK(message<NetworkInterface>(R"({"iface_id":"e","host_dev_name":"lo","guest_mac":"06-00-00-00-00-0a"})")
              .starts_with("The provided MAC address is invalid."));
    CHECK(message<NetworkInterface>(R"({"iface_id":"e","host_dev_name":"lo","mtu":70000})") ==
          "invalid value: integer `70000`, expected u16 at line 1 column 48");
    CHECK(message<Vsock>(R"({"guest_cid":4294967296,"uds_path":"/v"})") ==
          "invalid value: integer `4294967296`, expected u32 at line 1 column 23");
}

TEST_CASE("sinks, mmds and snapshots are refused in the same words") {
    CHECK(message<Logger>(R"({"level":"foo"})") == "Invalid LevelFilter at line 1 column 15");
    CHECK(message<Logger>(R"({"level":"WaRn"})") == "ok");
    CHECK(message<Logger>(R"({"log_path":5})") ==
          "invalid type: integer `5`, expected path string at line 1 column 13");
    CHECK(message<Metrics>(R"({"metrics_path":"/m","properties":{"a":5}})") ==
          "invalid type: integer `5`, expected a string at line 1 column 40");
    CHECK(message<Metrics>(R"({"metrics_path":"/m","foo":5})") == "ok");
    CHECK(message<MmdsConfig>(R"({"network_interfaces":["e"],"ipv4_address":"x"})") ==
          "invalid IPv4 address syntax at line 1 column 46");
    CHECK(message<MmdsConfig>(R"({"network_interfaces":"e"})") ==
          "invalid type: string \"e\", expected a sequence at line 1 column 25");
    CHECK(message<SnapshotLoad>(R"({"snapshot_path":"a","mem_backend":{"backend_type":"foo","backend_path":"x"}})") ==
          "unknown variant `foo`, expected `File` or `Uffd` at line 1 column 56");
}

TEST_CASE("a custom CPU template is parsed into masks") {
    const auto config = decode<CpuConfig>(parse_json(
        R"({"kvm_capabilities":["!121","5"],"msr_modifiers":[{"addr":"0x10a","bitmap":"0b1"}],
            "cpuid_modifiers":[{"leaf":"0x1","subleaf":"0b10","flags":1,"modifiers":[{"register":"ecx","bitmap":"0b1_0x1"}]}]})"));
    REQUIRE(config);
    CHECK(config->kvm_capabilities[0].remove);
    CHECK(config->kvm_capabilities[0].number == 121);
    CHECK_FALSE(config->kvm_capabilities[1].remove);
    CHECK(config->msr_modifiers[0].addr == 0x10a);
    const CpuidLeafModifier& leaf = config->cpuid_modifiers[0];
    CHECK(leaf.leaf == 1);
    CHECK(leaf.subleaf == 2);
    CHECK(leaf.modifiers[0].first == CpuidRegister::kEcx);
    CHECK(leaf.modifiers[0].second.apply(0) == 0b1001);
    CHECK(leaf.modifiers[0].second.apply(0xff) == 0b11111011);

    CHECK(message<CpuConfig>(R"({"cpuid_modifiers":[{"leaf":"zz"}]})") ==
          "No supported number system prefix found in value [zz]. Make sure to prefix the number with '0x' for "
          "hexadecimal "
          "numbers or '0b' for binary numbers. at line 1 column 33");
    CHECK(message<CpuConfig>(R"({"kvm_capabilities":["x"]})") ==
          "Failed to parse string [x] as a kvm capability - can not convert to numeric: invalid digit found in string "
          "at line 1 "
          "column 25");
}

TEST_CASE("a free document goes through a tree and comes out the same") {
    const std::string text =
        R"({"a":[1,-2,2.5,"x\"\\\n\u0001é",true,false,null],"b":{"c":{}},"d":18446744073709551615,"e":1.0})";
    const auto value = parse_json_strict(text);
    REQUIRE(value);
    CHECK(to_json(*value) == text);
}
