// SPDX-License-Identifier: Apache-2.0
#include "base/memory_backing.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "base/guest_memory.h"
#include "base/limits.h"
#include "tests/support/guest.h"
#include "tests/support/kernel_image.h"
#include "tests/support/temp_file.h"

using namespace wisp;
using namespace wisp::test;
using Catch::Matchers::Contains;

namespace {

constexpr uint64_t kSize = 4 * limits::kMiB;

Result<GuestMemory> memory_on(MemoryBacking backing) {
    const GuestMemory::Range ranges[] = {{{0}, limits::kMiB}, {{0x10000000}, kSize - limits::kMiB}};
    return GuestMemory::create(ranges, std::move(backing));
}

MemoryBacking file_backing(const TempFile& file, uint64_t offset = 0) {
    return MemoryBacking::private_file(*open_file(file.path(), O_RDONLY), offset, file.path());
}

}  // namespace

TEST_CASE("memory backing: anonymous memory is zero, aligned to huge pages and writable") {
    for (const bool huge : {false, true}) {
        const auto memory = memory_on(huge ? MemoryBacking::transparent_huge() : MemoryBacking::anonymous());
        REQUIRE(memory);
        CHECK(memory->total_size() == kSize);
        CHECK(reinterpret_cast<uintptr_t>(memory->regions()[0].host) % limits::kHugePageSize == 0);
        CHECK(memory->regions()[1].host == memory->regions()[0].host + limits::kMiB);
        CHECK(memory->load<uint64_t>({0x10000000}) == 0u);
        CHECK(memory->store({0x10000000}, uint64_t{7}));
        CHECK(memory->load<uint64_t>({0x10000000}) == 7u);
        CHECK(memory->backing().fd() == -1);
    }
}

TEST_CASE("memory backing: huge pages of the pool, or an error that names the size") {
    const auto memory = memory_on(MemoryBacking::huge_tlb_2m());
    if (memory) {
        CHECK(memory->store({0}, 1));
    } else {
        CHECK_THAT(memory.error().message, Contains("4 MiB of guest memory"));
    }
}

TEST_CASE("memory backing: shared memory is what its descriptor shows, and its size is sealed") {
    const auto memory = memory_on(MemoryBacking::shared());
    REQUIRE(memory);
    const int fd = memory->backing().fd();
    REQUIRE(fd >= 0);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(reinterpret_cast<uintptr_t>(memory->regions()[0].host) % limits::kHugePageSize == 0);
    REQUIRE(memory->store({0x10000000}, uint64_t{0x1234}));
    uint64_t seen = 0;
    CHECK(pread(fd, &seen, sizeof seen, limits::kMiB) == sizeof seen);
    CHECK(seen == 0x1234);
    seen = 0x5678;
    CHECK(pwrite(fd, &seen, sizeof seen, 0) == sizeof seen);
    CHECK(memory->load<uint64_t>({0}) == 0x5678u);
    CHECK(ftruncate(fd, 0) < 0);
    CHECK(ftruncate(fd, 2 * kSize) < 0);
}

TEST_CASE("memory backing: a private file is copied on write, from an offset") {
    std::string content = pattern(kSize + limits::kPageSize, 5);
    const TempFile file(content);
    const auto memory = memory_on(file_backing(file, limits::kPageSize));
    REQUIRE(memory);
    CHECK(reinterpret_cast<uintptr_t>(memory->regions()[0].host) % limits::kHugePageSize == 0);
    CHECK(guest_bytes(*memory, {0}, limits::kMiB) == content.substr(limits::kPageSize, limits::kMiB));
    CHECK(guest_bytes(*memory, {0x10000000}, 100) == content.substr(limits::kPageSize + limits::kMiB, 100));
    REQUIRE(memory->store({0}, uint64_t{0}));
    CHECK(memory->load<uint64_t>({0}) == 0u);
    CHECK(file.content() == content);
}

TEST_CASE("memory backing: a file that is too short, or no file, is refused by name") {
    const TempFile file(pattern(kSize, 5));
    CHECK(memory_on(file_backing(file)));
    for (const uint64_t offset : {limits::kPageSize + 0, 2 * kSize}) {
        const auto refused = memory_on(file_backing(file, offset));
        REQUIRE_FALSE(refused);
        CHECK_THAT(refused.error().message, Contains(file.path()) && Contains("4194304 bytes"));
    }
    const auto refused = memory_on(MemoryBacking::private_file(*open_file("/dev/zero", O_RDONLY), 0, "/dev/zero"));
    REQUIRE_FALSE(refused);
    CHECK_THAT(refused.error().message, Contains("/dev/zero"));
}
