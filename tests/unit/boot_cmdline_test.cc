// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/command_line.h"

#include <catch2/catch.hpp>

#include "base/limits.h"

using namespace wisp;
using namespace wisp::boot;
using Catch::Matchers::Contains;

namespace {

CommandLine line(std::optional<std::string_view> boot_args) {
    auto created = CommandLine::create(boot_args);
    REQUIRE(created);
    return *std::move(created);
}

}  // namespace

TEST_CASE("boot: the default command line stands in for absent boot_args, not for empty ones") {
    CHECK(line(std::nullopt).text() == kDefaultCommandLine);
    CHECK(line("").text() == "");
    CHECK(line(" \n").text() == "");
    CHECK(line("console=ttyS0 quiet\n").text() == "console=ttyS0 quiet");
}

TEST_CASE("boot: additions go before the arguments of init") {
    const auto added = [](std::string_view boot_args) {
        CommandLine command_line = line(boot_args);
        REQUIRE(command_line.add("pci=off"));
        return command_line.text();
    };
    CHECK(added("quiet") == "quiet pci=off");
    CHECK(added("") == "pci=off");
    CHECK(added("quiet -- a b") == "quiet pci=off -- a b");
    CHECK(added("quiet   --   a -- b") == "quiet pci=off -- a -- b");
    CHECK(added("quiet --") == "quiet pci=off");
    CHECK(added("-- a") == "pci=off -- a");
    CHECK(added("a--b --c d--") == "a--b --c d-- pci=off");
    CHECK(added("a=\"x -- y\" -- z") == "a=\"x -- y\" pci=off -- z");
    CHECK(line("-- a").text() == "-- a");
}

TEST_CASE("boot: the root drive and devices are named as Firecracker names them") {
    CommandLine command_line = line("quiet");
    REQUIRE(command_line.add_root({.access = RootDrive::Access::kReadOnly, .partuuid = {}}));
    REQUIRE(command_line.add_virtio_mmio({{0xc0001000}, 5}));
    CHECK(command_line.text() == "quiet root=/dev/vda ro virtio_mmio.device=4K@0xc0001000:5");
    command_line = line("quiet -- init");
    REQUIRE(command_line.add_root({.access = RootDrive::Access::kReadWrite, .partuuid = "0eaa91a0-01"}));
    CHECK(command_line.text() == "quiet root=PARTUUID=0eaa91a0-01 rw -- init");
}

TEST_CASE("boot: a command line that is too long is refused, with the NUL counted") {
    CHECK(CommandLine::create(std::string(limits::kMaxCommandLine - 1, 'a')));
    const auto over = CommandLine::create(std::string(limits::kMaxCommandLine, 'a'));
    REQUIRE_FALSE(over);
    CHECK_THAT(over.error().message, Contains("kernel command line: 2049 bytes"));

    CommandLine command_line = line(std::string(limits::kMaxCommandLine - 5, 'a'));
    const std::string before = command_line.text();
    CHECK_FALSE(command_line.add("four"));
    CHECK(command_line.text() == before);
    CHECK(command_line.add("333"));
    CHECK(command_line.text().size() == limits::kMaxCommandLine - 1);

    command_line = line("k -- " + std::string(limits::kMaxCommandLine - 10, 'a'));
    CHECK_FALSE(command_line.add("four"));
    CHECK(command_line.add("333"));
    CHECK(command_line.text().size() == limits::kMaxCommandLine - 1);
}

TEST_CASE("boot: bytes that are not printable ASCII are refused") {
    for (const char bad : {'\0', '\x01', '\t', '\n', '\x1f', '\x7f', '\x80', '\xff'}) {
        const std::string text = std::string("quiet ") + bad + " x";
        const auto created = CommandLine::create(text);
        REQUIRE_FALSE(created);
        CHECK_THAT(created.error().message, Contains("byte 7"));
        CommandLine command_line = line("quiet");
        CHECK_FALSE(command_line.add(text));
        CHECK_FALSE(command_line.add_root({.partuuid = text}));
        CHECK(command_line.text() == "quiet");
    }
}
