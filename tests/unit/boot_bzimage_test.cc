// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include "base/limits.h"
#include "tests/support/guest.h"
#include "tests/support/kernel_image.h"
#include "tests/support/temp_file.h"
#include "vmm/boot/load/kernel.h"

using namespace wisp;
using namespace wisp::boot;
using namespace wisp::test;
using Catch::Matchers::Contains;

namespace {

constexpr uint64_t kMiB = limits::kMiB;

std::string refusal(const std::string& bytes, uint64_t memory_bytes = 16 * kMiB) {
    const GuestMemory memory = machine_memory(memory_bytes);
    const TempFile file(bytes);
    const auto kernel = load_kernel(memory, file.fd(), file.path());
    if (kernel) return "";
    CHECK_THAT(kernel.error().message, Contains(file.path()));
    return kernel.error().message;
}

template <class Spoil>
std::string refusal_with(Spoil spoil, uint64_t memory_bytes = 16 * kMiB) {
    BzImage image;
    spoil(image.header);
    return refusal(image.bytes(), memory_bytes);
}

}  // namespace

TEST_CASE("boot: a bzImage is loaded at its preferred address") {
    // Behind 8 sectors the kernel proper starts at a page of the file, behind 9 it does not.
    for (const uint8_t setup_sectors : {7, 8}) {
        BzImage image;
        image.header.setup_sects = setup_sectors;
        const TempFile file(image.bytes());
        const GuestMemory memory = machine_memory(16 * kMiB);
        const auto kernel = load_kernel(memory, file.fd(), file.path());
        REQUIRE(kernel);
        CHECK(kernel->protocol == BootProtocol::kLinux64);
        CHECK(kernel->start.value == 0x100000);
        CHECK(kernel->entry.value == 0x100200);
        CHECK(kernel->end.value == 0x200000);
        CHECK(kernel->header.setup_sects == setup_sectors);
        CHECK(kernel->header.init_size == 0x100000);
        CHECK(kernel->header.code32_start == 0x100000);
        CHECK(guest_bytes(memory, {0x100000}, image.kernel.size()) == image.kernel);
    }
}

TEST_CASE("boot: bytes after a bzImage's kernel (a signature, say) are not loaded") {
    BzImage image;
    const TempFile file(image.bytes() + std::string(5000, 'S'));
    const GuestMemory memory = machine_memory(16 * kMiB);
    REQUIRE(load_kernel(memory, file.fd(), file.path()));
    CHECK(guest_bytes(memory, {0x100000 + image.kernel.size()}, 5000) == std::string(5000, '\0'));
}

TEST_CASE("boot: a bzImage that is cut anywhere is refused") {
    const std::string whole = BzImage().bytes();
    REQUIRE(refusal(whole) == "");
    for (const size_t size : {1ul, 0x1f0ul, 0x1fful, 0x205ul, 0x206ul, 0x210ul, 0x26bul, 0x26cul, 0xffful, 0x1000ul,
                              0x1200ul, whole.size() - 1}) {
        INFO(size);
        CHECK(refusal(whole.substr(0, size)) != "");
    }
    CHECK_THAT(refusal(whole.substr(0, 0x210)), Contains("ends within the setup header"));
    CHECK_THAT(refusal(whole.substr(0, whole.size() - 1)), Contains("truncated: the kernel proper"));
}

TEST_CASE("boot: a bzImage that Wisp cannot start is refused by name") {
    CHECK_THAT(refusal_with([](auto& header) { header.version = 0x020b; }), Contains("its boot protocol is 2.11"));
    CHECK_THAT(refusal_with([](auto& header) { header.xloadflags = XLF_CAN_BE_LOADED_ABOVE_4G; }),
               Contains("no 64-bit entry point"));
    CHECK_THAT(refusal_with([](auto& header) { header.loadflags = 0; }), Contains("zImage"));
    CHECK_THAT(refusal_with([](auto& header) { header.boot_flag = 0; }), Contains("neither an ELF kernel"));
    CHECK_THAT(refusal_with([](auto& header) { header.header = 0; }), Contains("neither an ELF kernel"));
    CHECK(refusal_with([](auto& header) { header.jump = 0x10eb; }) != "");  // a header that ends before its fields
    CHECK_THAT(refusal_with([](auto& header) { header.syssize = 0; }), Contains("only 0 bytes"));
    CHECK_THAT(refusal_with([](auto& header) { header.syssize = 0x20; }), Contains("only 512 bytes"));
    CHECK_THAT(refusal_with([](auto& header) { header.syssize = UINT32_MAX; }), Contains("truncated"));
}

TEST_CASE("boot: a bzImage without room is refused") {
    CHECK_THAT(refusal_with([](auto& header) { header.pref_address = 0; }), Contains("first MiB"));
    CHECK_THAT(refusal_with([](auto& header) { header.pref_address = 0x180000; }), Contains("not a multiple"));
    CHECK_THAT(refusal_with([](auto& header) { header.kernel_alignment = 0; }), Contains("not a power of two"));
    CHECK_THAT(refusal_with([](auto& header) { header.kernel_alignment = 0x180000; }), Contains("not a power of two"));
    CHECK_THAT(refusal_with([](auto& header) { header.pref_address = 0x40000000; }), Contains("first GiB"));
    CHECK_THAT(refusal_with([](auto& header) { header.pref_address = 0xfffffffffff00000; }), Contains("first GiB"));
    CHECK_THAT(refusal_with([](auto& header) { header.init_size = UINT32_MAX; }), Contains("first GiB"));
    CHECK_THAT(refusal_with([](auto& header) { header.init_size = 16 * kMiB; }),
               Contains("needs 17 MiB of memory to unpack itself; the machine has 16 MiB"));
    CHECK(refusal_with([](auto& header) { header.init_size = 15 * kMiB; }) == "");
    // A kernel larger than the room it asks for still needs the room that it takes.
    CHECK(refusal_with([](auto& header) { header.init_size = 0; }) == "");
}
