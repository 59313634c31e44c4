// SPDX-License-Identifier: Apache-2.0
//
// The MP table and the ACPI tables, walked as a guest walks them.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>

#include "base/endian.h"
#include "base/limits.h"
#include "tests/support/guest.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/tables/acpi.h"
#include "vmm/boot/tables/aml.h"
#include "vmm/boot/tables/mptable.h"

using namespace wisp;
using namespace wisp::boot;
using namespace wisp::test;
using Catch::Matchers::Contains;
namespace aml = wisp::boot::aml;

namespace {

unsigned sum(std::string_view bytes) {
    return std::accumulate(bytes.begin(), bytes.end(), 0u,
                           [](unsigned total, char byte) { return total + static_cast<unsigned char>(byte); }) &
           0xff;
}

uint32_t dword(std::string_view bytes, size_t at) {
    REQUIRE(at + 4 <= bytes.size());
    le32 value;
    memcpy(&value, bytes.data() + at, 4);
    return value;
}

uint8_t byte(std::string_view bytes, size_t at) {
    return static_cast<uint8_t>(bytes.at(at));
}

/// The devices of a full machine.
std::vector<VirtioMmioDevice> all_devices() {
    std::vector<VirtioMmioDevice> devices;
    for (uint32_t i = 0; i < limits::kMaxMmioDevices; ++i)
        devices.push_back({{kVirtioMmio.value + i * kMmioSlotSize}, kFirstDeviceGsi + i});
    return devices;
}

/// An ACPI table in guest memory, its checksum verified.
std::string table_at(const GuestMemory& memory, uint64_t address, std::string_view signature) {
    const uint32_t length = dword(guest_bytes(memory, {address}, 36), 4);
    REQUIRE(address + length <= kRsdp.value);
    const std::string table = guest_bytes(memory, {address}, length);
    CHECK(table.substr(0, 4) == signature);
    CHECK(sum(table) == 0);
    return table;
}

}  // namespace

TEST_CASE("boot: the MP table of 1 to 32 vCPUs") {
    const GuestMemory memory = machine_memory(2 * limits::kMiB);
    for (unsigned vcpu_count = 1; vcpu_count <= limits::kMaxVcpus; ++vcpu_count) {
        REQUIRE(write_mp_table(memory, vcpu_count));
        const std::string area = guest_bytes(memory, {0x9fc00}, 0x400);
        CHECK(area.substr(0, 4) == "_MP_");
        CHECK(sum(area.substr(0, 16)) == 0);
        CHECK(dword(area, 4) == 0x9fc10);
        const std::string table = area.substr(16, dword(area, 20) & 0xffff);
        CHECK(table.substr(0, 4) == "PCMP");
        CHECK(sum(table) == 0);
        CHECK(dword(table, 36) == 0xfee00000);

        std::map<unsigned, unsigned> seen;
        unsigned previous = 0;
        size_t at = 44;
        while (at < table.size()) {
            const uint8_t type = byte(table, at);
            CHECK(type >= previous);
            previous = type;
            if (type == 0) {
                CHECK(byte(table, at + 1) == seen[0]);
                CHECK(byte(table, at + 3) == (seen[0] == 0 ? 3 : 1));
            } else if (type == 1) {
                CHECK(table.substr(at + 2, 6) == "ISA   ");
            } else if (type == 2) {
                CHECK(byte(table, at + 1) == vcpu_count);
                CHECK(dword(table, at + 4) == 0xfec00000);
            } else if (type == 3) {  // INT, each ISA interrupt to the pin of its number
                CHECK(dword(table, at) == 3);
                CHECK(byte(table, at + 5) == seen[3]);
                CHECK(byte(table, at + 6) == vcpu_count);
                CHECK(byte(table, at + 7) == seen[3]);
            } else {
                CHECK(type == 4);
                CHECK(byte(table, at + 1) == (seen[4] == 0 ? 3 : 1));  // ExtINT, NMI
                CHECK(byte(table, at + 7) == seen[4]);
            }
            ++seen[type];
            at += type == 0 ? 20 : 8;
        }
        CHECK(at == table.size());
        CHECK((dword(table, 34) & 0xffff) == vcpu_count + 28);
        CHECK((seen[0] == vcpu_count && seen[1] == 1 && seen[2] == 1 && seen[3] == 24 && seen[4] == 2));
    }
    CHECK_FALSE(write_mp_table(machine_memory(0x90000), 1));
}

TEST_CASE("boot: ACPI tables are found from the RSDP on") {
    const GuestMemory memory = machine_memory(2 * limits::kMiB);
    const auto devices = all_devices();
    REQUIRE(write_acpi_tables(memory, {.vcpu_count = 32, .virtio_devices = devices}));
    const std::string rsdp = guest_bytes(memory, {0xe0000}, 36);
    CHECK(rsdp.substr(0, 8) == "RSD PTR ");
    CHECK(sum(rsdp.substr(0, 20)) == 0);
    CHECK(sum(rsdp) == 0);

    const std::string xsdt = table_at(memory, dword(rsdp, 24), "XSDT");
    REQUIRE(xsdt.size() == 36 + 2 * 8);
    const std::string fadt = table_at(memory, dword(xsdt, 36), "FACP");
    REQUIRE(fadt.size() == 276);
    CHECK(byte(fadt, 8) == 6);
    CHECK(dword(fadt, 112) == (1u << 20 | 1u << 10 | 1u << 5 | 1u << 4 | 1u));  // hardware-reduced, reset register, …
    CHECK(fadt.substr(116, 12) == std::string("\x01\x08\x00\x01\x64\0\0\0\0\0\0\0", 12));
    CHECK(byte(fadt, 128) == 0xfe);
    CHECK(fadt.substr(244, 12) == std::string("\x01\x08\x00\x01\x00\x06\0\0\0\0\0\0", 12));
    CHECK(fadt.substr(256, 12) == std::string("\x01\x08\x00\x01\x01\x06\0\0\0\0\0\0", 12));
    for (size_t at = 46; at < 108; ++at) CHECK(byte(fadt, at) == 0);  // no SCI, no fixed registers

    const std::string madt = table_at(memory, dword(xsdt, 44), "APIC");
    REQUIRE(madt.size() == 44 + 32 * 8 + 12);
    for (unsigned i = 0; i < 32; ++i) CHECK(dword(madt, 44 + 8 * i) == (0x0800 | i << 16 | i << 24));
    CHECK(dword(madt, 44 + 32 * 8) == (0x0c01 | 32 << 16));
    CHECK(dword(madt, 44 + 32 * 8 + 4) == 0xfec00000);

    const std::string dsdt = table_at(memory, dword(fadt, 140), "DSDT");
    CHECK(dword(fadt, 40) == dword(fadt, 140));
    CHECK_THAT(dsdt, Contains("V000") && Contains("V018") && Contains("LNRO0005") && Contains("COM1"));
    CHECK_FALSE(write_acpi_tables(machine_memory(0xa0000), {}));
}

TEST_CASE("boot: the machine's legacy devices are told as they are") {
    const auto architecture = [](Presence serial, Presence keyboard) {
        const auto fadt = make_fadt({.serial = serial, .keyboard = keyboard, .virtio_devices = {}}, kAcpiTables);
        return std::to_integer<unsigned>(fadt[109]);
    };
    CHECK(architecture(Presence::kAbsent, Presence::kAbsent) == 0b101100);
    CHECK(architecture(Presence::kPresent, Presence::kAbsent) == 0b101101);
    CHECK(architecture(Presence::kAbsent, Presence::kPresent) == 0b101111);
    const auto names = [](Presence serial, Presence keyboard) {
        const auto dsdt = make_dsdt({.serial = serial, .keyboard = keyboard, .virtio_devices = {}});
        const std::string text(reinterpret_cast<const char*>(dsdt.data()), dsdt.size());
        return std::pair(text.contains("COM1"), text.contains("PS2K"));
    };
    CHECK(names(Presence::kAbsent, Presence::kAbsent) == std::pair(false, false));
    CHECK(names(Presence::kPresent, Presence::kPresent) == std::pair(true, true));
}

TEST_CASE("boot: AML is encoded as section 20.2 says") {
    CHECK(aml::integer(0) == std::string("\0", 1));
    CHECK(aml::integer(1) == "\x01");
    CHECK(aml::integer(2) == "\x0a\x02");
    CHECK(aml::integer(0x1234) == "\x0b\x34\x12");
    CHECK(aml::integer(0x12345678) == "\x0c\x78\x56\x34\x12");
    CHECK(aml::integer(0x123456789a) == std::string("\x0e\x9a\x78\x56\x34\x12\0\0\0", 9));
    CHECK(aml::string("ab") == std::string("\x0d"
                                           "ab\0",
                                           4));
    CHECK(aml::eisa_id("PNP0501") == "\x0c\x41\xd0\x05\x01");
    CHECK(aml::name("X", aml::integer(1)) == "\x08X___\x01");
    CHECK(aml::scope("\\_SB", "").size() == 7);
    // The length counts itself: one byte up to 63, two up to 4095, three beyond.
    const auto length = [](size_t body) { return aml::scope("ABCD", std::string(body - 4, 'x')); };
    CHECK(length(62).substr(0, 2) == "\x10\x3f");
    CHECK(length(63).substr(0, 3) == "\x10\x41\x04");
    CHECK(length(4093).substr(0, 3) == "\x10\x4f\xff");
    CHECK(length(4094).substr(0, 4) == std::string("\x10\x81\x00\x01", 4));
}

TEST_CASE("boot: the ACPI compiler reads our tables without complaint") {
    if (system("command -v iasl >/dev/null") != 0) FAIL("there is no iasl: install acpica-tools");
    const auto folder = std::filesystem::temp_directory_path() / format("wisp-acpi-%d", getpid());
    std::filesystem::create_directory(folder);
    const auto devices = all_devices();
    const AcpiPlatform platform{.vcpu_count = 32, .keyboard = Presence::kPresent, .virtio_devices = devices};
    const auto run = [&](const char* options, const char* file) {
        const std::string in = "cd " + folder.string() + " && ";
        const int status = system((in + "iasl " + options + " " + file + " >out 2>&1").c_str());
        std::ifstream out(folder / "out");
        const std::string text(std::istreambuf_iterator<char>(out), {});
        INFO(text);
        CHECK(status == 0);
        CHECK_THAT(text, !Contains("Error ") && !Contains("Warning ") && !Contains("Could not"));
        return text;
    };
    const std::pair<const char*, std::vector<std::byte>> tables[] = {
        {"dsdt", make_dsdt(platform)},
        {"facp", make_fadt(platform, kAcpiTables)},
        {"apic", make_madt(32)},
    };
    for (const auto& [name, table] : tables) {
        std::ofstream(folder / (std::string(name) + ".dat"), std::ios::binary)
            .write(reinterpret_cast<const char*>(table.data()), static_cast<std::streamsize>(table.size()));
        run("-d", (std::string(name) + ".dat").c_str());
        const std::string compiled = run("-f", (std::string(name) + ".dsl").c_str());
        CHECK_THAT(compiled, !Contains("Error") || Contains("0 Errors"));
        CHECK_THAT(compiled, !Contains("Warnings") || Contains("0 Warnings"));
    }
    std::filesystem::remove_all(folder);
}
