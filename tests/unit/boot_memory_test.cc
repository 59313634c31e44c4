// SPDX-License-Identifier: Apache-2.0
//
// The memory map, the zero page, the PVH start info, and where the initrd goes.
#include <catch2/catch.hpp>

#include "base/limits.h"
#include "tests/support/guest.h"
#include "tests/support/kernel_image.h"
#include "tests/support/temp_file.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/load/initrd.h"
#include "vmm/boot/tables/pvh.h"
#include "vmm/boot/tables/zero_page.h"

using namespace wisp;
using namespace wisp::boot;
using namespace wisp::test;
using Catch::Matchers::Contains;

namespace {

constexpr uint64_t kMiB = limits::kMiB;
constexpr uint64_t kGiB = 1024 * kMiB;

struct Ram {
    uint64_t start, end;
};

/// The RAM above 1 MiB that a machine of each size should show.
std::vector<Ram> high_ram(uint64_t memory_bytes) {
    if (memory_bytes <= 3 * kGiB) return {{kMiB, memory_bytes}};
    return {{kMiB, 3 * kGiB}, {4 * kGiB, kGiB + memory_bytes}};
}

LoadedKernel kernel_up_to(uint64_t end) {
    LoadedKernel kernel;
    kernel.start = {kMiB};
    kernel.end = {end};
    return kernel;
}

}  // namespace

TEST_CASE("boot: the memory map of 64 MiB, 3 GiB, 4 GiB, 8 GiB and an odd size") {
    for (const uint64_t bytes : {64 * kMiB, 3 * kGiB, 3 * kGiB + 4096, 4 * kGiB, 8 * kGiB, 1023 * kMiB}) {
        const GuestMemory memory = machine_memory(bytes);
        CHECK(memory.total_size() == bytes);
        const auto map = memory_map(memory);
        const auto high = high_ram(bytes);
        REQUIRE(map.size() == 2 + high.size());
        CHECK((map[0].start.value == 0 && map[0].size == 0x9fc00 && map[0].type == MemoryType::kRam));
        CHECK((map[1].start.value == 0x9fc00 && map[1].type == MemoryType::kReserved));
        CHECK(map[1].start.value + map[1].size == 0x100000);
        for (size_t i = 0; i < high.size(); ++i) {
            CHECK(map[2 + i].start.value == high[i].start);
            CHECK(map[2 + i].start.value + map[2 + i].size == high[i].end);
            CHECK(map[2 + i].type == MemoryType::kRam);
        }
    }
}

TEST_CASE("boot: the zero page says what the kernel needs") {
    const GuestMemory memory = machine_memory(4 * kGiB);
    LoadedKernel kernel = kernel_up_to(32 * kMiB);
    kernel.header = BzImage().header;
    REQUIRE(write_zero_page(memory, make_zero_page(memory, kernel, {{0x3f000000}, 0x123456}, 99)));
    const auto page = guest_load<boot_params>(memory, kZeroPage);
    CHECK(page.hdr.type_of_loader == 0xff);
    CHECK(page.hdr.cmd_line_ptr == 0x20000);
    CHECK(page.hdr.cmdline_size == 2047);
    CHECK(page.hdr.ramdisk_image == 0x3f000000);
    CHECK(page.hdr.ramdisk_size == 0x123456);
    CHECK(page.hdr.setup_sects == 7);
    CHECK(page.acpi_rsdp_addr == 0xe0000);
    CHECK(page.sentinel == 0);
    REQUIRE(page.e820_entries == 4);
    CHECK(page.e820_table[0].addr == 0);
    CHECK(page.e820_table[1].type == 2);
    CHECK(page.e820_table[3].addr == 4 * kGiB);
    CHECK(page.e820_table[3].size == kGiB);

    kernel.header.cmdline_size = 0;
    CHECK(make_zero_page(memory, kernel, {}, 99).hdr.cmdline_size == 99);
}

TEST_CASE("boot: the PVH start info points to module, map, command line and RSDP") {
    const GuestMemory memory = machine_memory(4 * kGiB);
    REQUIRE(write_pvh_start_info(memory, {{0x3f000000}, 0x123456}));
    const auto info = guest_load<PvhStartInfo>(memory, kPvhStartInfo);
    CHECK(info.magic == 0x336ec578);
    CHECK(info.version == 1);
    CHECK(info.module_count == 1);
    CHECK(info.module_list_address == 0x6040);
    CHECK(info.command_line_address == 0x20000);
    CHECK(info.rsdp_address == 0xe0000);
    CHECK(info.memory_map_address == 0x7000);
    REQUIRE(info.memory_map_entry_count == 4);
    const auto module = guest_load<PvhModule>(memory, kPvhModuleList);
    CHECK(module.address == 0x3f000000);
    CHECK(module.size == 0x123456);
    const auto map = memory_map(memory);
    for (uint64_t i = 0; i < 4; ++i) {
        const auto entry = guest_load<PvhMemoryMapEntry>(memory, {0x7000 + i * sizeof(PvhMemoryMapEntry)});
        CHECK(entry.address == map[i].start.value);
        CHECK(entry.size == map[i].size);
        CHECK(entry.type == static_cast<uint32_t>(map[i].type));
    }
    REQUIRE(write_pvh_start_info(memory, {}));
    CHECK(guest_load<PvhStartInfo>(memory, kPvhStartInfo).module_count == 0);
}

TEST_CASE("boot: the initrd lies at the top of low memory, at a page") {
    const std::string content = pattern(0x12345, 9);
    const TempFile file(content);
    const auto start_in = [&](uint64_t memory_bytes, uint32_t addr_max) {
        const GuestMemory memory = machine_memory(memory_bytes);
        LoadedKernel kernel = kernel_up_to(4 * kMiB);
        kernel.header.initrd_addr_max = addr_max;
        const auto initrd = load_initrd(memory, file.fd(), file.path(), kernel);
        REQUIRE(initrd);
        CHECK(initrd->size == content.size());
        CHECK(guest_bytes(memory, initrd->start, content.size()) == content);
        return initrd->start.value;
    };
    CHECK(start_in(64 * kMiB, 0) == 64 * kMiB - 0x13000);
    CHECK(start_in(64 * kMiB, 0x7fffffff) == 64 * kMiB - 0x13000);
    CHECK(start_in(8 * kGiB, 0) == 3 * kGiB - 0x13000);
    CHECK(start_in(8 * kGiB, 0x7fffffff) == 2 * kGiB - 0x13000);
    CHECK(start_in(8 * kGiB, 0x37ffffff) == 0x38000000 - 0x13000);
    CHECK(start_in(64 * kMiB, 0x1000000) == 0x1000000 - 0x13000);
}

TEST_CASE("boot: an initrd that does not fit is refused") {
    const TempFile file(pattern(0x300000, 9)), empty("");
    const GuestMemory memory = machine_memory(8 * kMiB);
    CHECK(load_initrd(memory, file.fd(), file.path(), kernel_up_to(5 * kMiB)));
    for (const uint64_t kernel_end : {5 * kMiB + 1, 8 * kMiB, 9 * kMiB}) {
        const auto refused = load_initrd(memory, file.fd(), file.path(), kernel_up_to(kernel_end));
        REQUIRE_FALSE(refused);
        CHECK_THAT(refused.error().message, Contains(file.path()) && Contains("its 3072 KiB do not fit"));
    }
    const GuestMemory tiny = machine_memory(2 * kMiB);
    CHECK_FALSE(load_initrd(tiny, file.fd(), file.path(), kernel_up_to(kMiB)));
    LoadedKernel low = kernel_up_to(2 * kMiB);
    low.header.initrd_addr_max = 0xfffff;
    CHECK_FALSE(load_initrd(memory, file.fd(), file.path(), low));
    const auto refused = load_initrd(memory, empty.fd(), empty.path(), kernel_up_to(2 * kMiB));
    REQUIRE_FALSE(refused);
    CHECK_THAT(refused.error().message, Contains("empty"));
}
