// SPDX-License-Identifier: Apache-2.0
//
// The whole set-up: hand-made kernels, real ones where the host has them, and images spoiled at random.
#include "vmm/boot/boot.h"

#include <fcntl.h>
#include <stdlib.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <random>

#include "base/endian.h"
#include "base/limits.h"
#include "tests/support/guest.h"
#include "tests/support/kernel_image.h"
#include "tests/support/temp_file.h"
#include "vmm/boot/tables/pvh.h"

using namespace wisp;
using namespace wisp::boot;
using namespace wisp::test;
using Catch::Matchers::Contains;

namespace {

constexpr uint64_t kMiB = limits::kMiB;

BootRequest request_for(const TempFile& kernel, std::optional<std::string_view> boot_args = std::nullopt) {
    BootRequest request;
    request.kernel = {kernel.fd(), kernel.path()};
    auto line = CommandLine::create(boot_args);
    REQUIRE(line);
    request.command_line = *std::move(line);
    return request;
}

std::string elf_kernel(bool pvh) {
    ElfImage image;
    image.load(0x1000, 0x1000000, pattern(0x5000, 1), 0x10000);
    if (pvh) image.note(0x400, pvh_note(0x1000100));
    return image.bytes();
}

constexpr VirtioMmioDevice kDevices[] = {{{0xc0001000}, 5}, {{0xc0002000}, 6}};

/// The first stock kernel of the host, or "".
std::string stock_kernel() {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator("/boot", ignored))
        if (entry.path().filename().string().starts_with("vmlinuz-")) return entry.path();
    return "";
}

}  // namespace

TEST_CASE("boot: everything is in its place for the 64-bit entry") {
    const TempFile kernel(elf_kernel(false)), initrd(pattern(0x3000, 4));
    const GuestMemory memory = machine_memory(64 * kMiB);
    BootRequest request = request_for(kernel, "quiet -- init");
    request.initrd = BootFile{initrd.fd(), initrd.path()};
    request.root = RootDrive{};
    request.vcpu_count = 2;
    request.virtio_devices = kDevices;
    const auto entry = set_up_boot(memory, request);
    REQUIRE(entry);

    const std::string line =
        "quiet pci=off root=/dev/vda rw virtio_mmio.device=4K@0xc0001000:5 virtio_mmio.device=4K@0xc0002000:6 -- init";
    CHECK(entry->command_line == line);
    CHECK(entry->kernel.protocol == BootProtocol::kLinux64);
    CHECK(guest_bytes(memory, kCommandLine, line.size() + 1) == line + '\0');
    const auto page = guest_load<boot_params>(memory, kZeroPage);
    CHECK(page.hdr.header == 0x53726448);
    CHECK(page.hdr.cmdline_size == line.size());
    CHECK(page.hdr.ramdisk_image == 64 * kMiB - 0x3000);
    CHECK(guest_bytes(memory, kMpTable, 4) == "_MP_");
    CHECK(guest_bytes(memory, kRsdp, 8) == "RSD PTR ");
    CHECK(guest_load<le64>(memory, kPml4) == 0xa003);
    CHECK(guest_load<le32>(memory, kPvhStartInfo) == 0);
    CHECK(guest_bytes(memory, kResetVector, 4) == "\xb0\xfe\xe6\x64");
}

TEST_CASE("boot: everything is in its place for the PVH entry") {
    const TempFile kernel(elf_kernel(true));
    const GuestMemory memory = machine_memory(64 * kMiB);
    const auto entry = set_up_boot(memory, request_for(kernel));
    REQUIRE(entry);
    CHECK(entry->command_line == std::string(kDefaultCommandLine) + " pci=off");
    CHECK(entry->kernel.protocol == BootProtocol::kPvh);
    CHECK(entry->kernel.entry.value == 0x1000100);
    CHECK(guest_load<le32>(memory, kPvhStartInfo) == kPvhMagic);
    CHECK(guest_load<le64>(memory, kPml4) == 0);
}

TEST_CASE("boot: a machine too small for the kernel or the boot structures is refused") {
    const TempFile kernel(elf_kernel(false));
    for (const uint64_t bytes : {4096ul, 64ul << 10, 640ul << 10, 1ul << 20, 16ul << 20}) {
        const auto refused = set_up_boot(machine_memory(bytes), request_for(kernel));
        REQUIRE_FALSE(refused);
        CHECK_THAT(refused.error().message, Contains(kernel.path()));
    }
}

TEST_CASE("boot: a command line longer than all limits is refused after the additions") {
    const TempFile kernel(elf_kernel(false));
    BootRequest request = request_for(kernel, std::string(2035, 'a'));
    request.virtio_devices = kDevices;
    const auto refused = set_up_boot(machine_memory(64 * kMiB), request);
    REQUIRE_FALSE(refused);
    CHECK_THAT(refused.error().message, Contains("kernel command line: ") && Contains("at most 2048"));

    BzImage image;
    image.header.cmdline_size = 255;
    const TempFile old(image.bytes());
    const auto short_line = set_up_boot(machine_memory(64 * kMiB), request_for(old, std::string(255, 'a')));
    REQUIRE_FALSE(short_line);
    CHECK_THAT(short_line.error().message, Contains(old.path() + " takes at most 255"));
}

TEST_CASE("boot: a stock kernel of this host") {
    const std::string path = stock_kernel();
    auto file = path.empty() ? Result<OwnedFd>(fail("no /boot/vmlinuz-*")) : open_file(path, O_RDONLY);
    if (!file) {
        WARN("skipped: " << file.error().message);
        return;
    }
    const auto kernel = load_kernel(machine_memory(256 * kMiB), file->get(), path);
    REQUIRE(kernel);
    CHECK(kernel->protocol == BootProtocol::kLinux64);
    CHECK(kernel->entry.value == kernel->start.value + 0x200);

    const auto refused = load_kernel(machine_memory(32 * kMiB), file->get(), path);
    REQUIRE_FALSE(refused);
    CHECK_THAT(refused.error().message, Contains(path) && Contains("the machine has 32 MiB"));
}

TEST_CASE("boot: spoiled images are loaded or refused, and nothing else happens") {
    const char* given = getenv("WISP_TEST_SEED");
    const unsigned seed = given ? static_cast<unsigned>(strtoul(given, nullptr, 0)) : std::random_device()();
    INFO("WISP_TEST_SEED=" << seed);
    std::mt19937 random(seed);
    ElfImage elf;
    elf.load(0x1000, 0x200000, pattern(0x1800, 1), 0x1000);
    elf.load(0x3000, 0x300000, pattern(0x800, 2));
    elf.note(0x400, elf_note("GNU", 3, "build id") + pvh_note(0x200010));
    const std::string images[] = {elf.bytes(), BzImage().bytes()};
    const auto any = [&](uint64_t below) { return std::uniform_int_distribution<uint64_t>(0, below - 1)(random); };
    // Numbers at which arithmetic goes wrong.
    constexpr uint64_t kEdges[] = {
        0,          1,          0xfff,      0x1000,    0xfffff,    0x100000,           0x7fffffff, 0x80000000,
        0xc0000000, UINT32_MAX, 1ull << 32, INT64_MAX, 1ull << 63, UINT64_MAX - 0xfff, UINT64_MAX};
    unsigned loaded = 0;
    for (unsigned round = 0; round < 2000; ++round) {
        std::string image = images[round % 2];
        // The headers are what is parsed: spoil them rather than the code.
        const uint64_t first = round % 2 ? 0x1f1 : 0, length = round % 2 ? 0x80 : 0x450;
        for (uint64_t change = 0, changes = 1 + any(3); change < changes; ++change) {
            const uint64_t at = first + any(length);
            const uint64_t value = any(2) ? kEdges[any(std::size(kEdges))] : random();
            memcpy(image.data() + at, &value, size_t{1} << any(4));
        }
        if (any(8) == 0) image.resize(any(image.size()));
        const TempFile file(image);
        const GuestMemory memory = machine_memory(8 * kMiB);
        const auto entry = set_up_boot(memory, request_for(file));
        if (entry) {
            ++loaded;
            CHECK(entry->kernel.start >= kHighRam);
            CHECK(entry->kernel.end.value <= 8 * kMiB);
            CHECK(entry->kernel.entry >= entry->kernel.start);
            CHECK(entry->kernel.entry < entry->kernel.end);
        } else {
            CHECK_FALSE(entry.error().message.empty());
        }
        CHECK(file.content() == image);
    }
    CHECK(loaded > 0);
}
