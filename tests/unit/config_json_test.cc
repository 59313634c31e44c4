// SPDX-License-Identifier: Apache-2.0
//
// The texts with which Firecracker's clients are told what is wrong with a body. Each expectation was observed on
// Firecracker 1.17.
#include <time.h>

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
         "invalid value: integer `99999999999999999999`, expected usize at line 1 column 51"},
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

TEST_CASE("numbers at each border are accepted, or named as the integers that they are") {
    const auto memory = [](const std::string& number) {
        return message<MachineConfig>(R"({"vcpu_count":1,"mem_size_mib":)" + number + "}");
    };
    const auto refused = [](const std::string& number, size_t column) {
        return "invalid value: integer `" + number + "`, expected usize at line 1 column " + std::to_string(column);
    };
    CHECK(memory("0") == "ok");  // a rule between fields refuses it
    CHECK(memory("18446744073709551615") == "ok");
    CHECK(memory("18446744073709551616") == refused("18446744073709551616", 51));
    CHECK(memory("-1") == refused("-1", 33));
    CHECK(memory("-0") == refused("-0", 33));
    CHECK(memory("-9223372036854775808") == refused("-9223372036854775808", 51));
    CHECK(memory("-9223372036854775809") == refused("-9223372036854775809", 51));
    CHECK(memory("1e3") == "invalid type: floating point `1000.0`, expected usize at line 1 column 34");
    CHECK(message<MachineConfig>(R"({"vcpu_count":1,"mem_size_mib":1,"smt":99999999999999999999})") ==
          "invalid type: integer `99999999999999999999`, expected a boolean at line 1 column 59");
    CHECK(message<MachineConfig>(R"({"vcpu_count":255,"mem_size_mib":1})") == "ok");
    CHECK(message<MachineConfig>(R"({"vcpu_count":256,"mem_size_mib":1})") ==
          "invalid value: integer `256`, expected u8 at line 1 column 17");
    CHECK(message<TokenBucket>(R"({"size":18446744073709551615,"refill_time":18446744073709551615})") == "ok");
    CHECK(message<TokenBucket>(R"({"size":18446744073709551616,"refill_time":1})") ==
          "invalid value: integer `18446744073709551616`, expected u64 at line 1 column 28");
    CHECK(message<Vsock>(R"({"guest_cid":4294967295,"uds_path":"/v"})") == "ok");
    CHECK(message<NetworkInterface>(R"({"iface_id":"e","host_dev_name":"lo","mtu":65536})") ==
          "invalid value: integer `65536`, expected u16 at line 1 column 48");
}

namespace {

double cpu_seconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

std::string repeated(const char* begin, const char* piece, const char* end, size_t size) {
    std::string text = begin;
    while (text.size() < size) text += piece;
    return text + end;
}

}  // namespace

TEST_CASE("the work for a document is linear in its length") {
    constexpr size_t kSize = 768 << 10;
    // Minutes where each value's position is looked up from the start of its line or of the text; now well under 1 s.
    constexpr double kLimit_s = 20;
    const double start = cpu_seconds();
    CHECK(parse_json_strict(repeated("[1", ",1", "]", kSize)));
    CHECK(parse_json_strict(repeated("[1", ",\n1", "]", kSize)));
    CHECK(parse_json_strict(repeated("[{}", ", { \"a\" : [ ] }", "]", kSize)));
    CHECK(parse_json_strict(repeated("[", " ", "]", kSize)));
    CHECK(parse_json_strict(repeated("[1", ",1", ",", kSize)).error().message.starts_with("EOF while parsing a value"));
    CHECK(message<MmdsConfig>(repeated("{\"network_interfaces\":[\"e\"", ",\"e\"", "]}", kSize)) == "ok");
    std::string properties = R"({"metrics_path":"/m","properties":{"a":"")";
    for (size_t i = 0; properties.size() < kSize; ++i) properties += ",\"" + std::to_string(i) + "\":\"\"";
    CHECK(message<Metrics>(properties + "}}") == "ok");
    CHECK(cpu_seconds() - start < kLimit_s);
}

TEST_CASE("a fault far into a text of many lines has its line and column") {
    std::string text = "[";
    for (int i = 0; i < 1000; ++i) text += "1,\n";
    CHECK(parse_json_strict(text + "  x]").error().message == "expected value at line 1001 column 3");
}

TEST_CASE("of a property that is given twice the last one holds") {
    const auto metrics = decode<Metrics>(parse_json(R"({"metrics_path":"/m","properties":{"a":"1","b":"2","a":"3"}})"));
    REQUIRE(metrics);
    using Property = std::pair<std::string, std::string>;
    CHECK(metrics->properties == std::vector<Property>{{"b", "2"}, {"a", "3"}});
}
