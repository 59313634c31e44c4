// SPDX-License-Identifier: Apache-2.0
#include "vmm/policy/seccomp_file.h"

#include <catch2/catch.hpp>

#include <string>

using namespace wisp;

namespace {

std::string number(uint64_t value) {
    std::string bytes;
    for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> (8 * i));
    return bytes;
}

std::string entry(const std::string& name, unsigned instructions) {
    std::string bytes = number(name.size()) + name + number(instructions);
    for (unsigned i = 0; i < instructions; ++i)
        bytes += std::string("\x06\0\x01\x02", 4) + std::string("\0\0\xff\x7f", 4);
    return bytes;
}

Result<SeccompFile> parse(const std::string& bytes) {
    return parse_seccomp_file(std::as_bytes(std::span(bytes)));
}

std::string message_of(const std::string& bytes) {
    const auto parsed = parse(bytes);
    return parsed ? "" : parsed.error().message;
}

}  // namespace

TEST_CASE("seccomp file: a map of programs") {
    const auto file = parse(number(3) + entry("VMM", 2) + entry("api", 1) + entry("vcpu", 0));
    REQUIRE(file);
    REQUIRE(file->loop.size() == 2);
    CHECK(file->vcpu.empty());
    CHECK(file->loop[1].code == 6);
    CHECK(file->loop[1].jt == 1);
    CHECK(file->loop[1].jf == 2);
    CHECK(file->loop[1].k == 0x7fff0000);
}

TEST_CASE("seccomp file: every other content is an error that says why") {
    const std::string good = number(2) + entry("vmm", 1) + entry("vcpu", 1);
    CHECK(parse(good));
    for (size_t length = 0; length < good.size(); ++length) CHECK(!parse(good.substr(0, length)));
    CHECK(message_of(good + "x").contains("behind"));
    CHECK(message_of(number(1) + entry("vmm", 1)).contains("no filter for \"vcpu\""));
    CHECK(message_of(number(1) + entry("vcpu", 1)).contains("no filter for \"vmm\""));
    CHECK(message_of(number(1) + entry("net", 1)).contains("\"net\""));
    CHECK(message_of("{\"vmm\": {\"default_action\": \"trap\"}}").contains("seccompiler"));
    CHECK(message_of(number(1) + entry("vmm", 4097)).contains("4097 instructions"));
    CHECK(message_of(number(1) + number(UINT64_MAX)).contains("bytes"));
    CHECK(message_of(number(UINT64_MAX)).contains("seccompiler"));
}
