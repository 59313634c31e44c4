// SPDX-License-Identifier: Apache-2.0
#include "base/guest_memory.h"

#include <sys/mman.h>

#include <cstring>

#include "base/check.h"
#include "base/limits.h"

namespace wisp {

namespace {

// Volatile accesses can be neither repeated nor left out by the compiler, and x86 allows them at any alignment.
using Word [[gnu::may_alias, gnu::aligned(1)]] = uint64_t;

}  // namespace

void copy_from_shared(void* to, const volatile void* from, size_t size) {
    auto* out = static_cast<std::byte*>(to);
    const auto* in = static_cast<const volatile std::byte*>(from);
    for (; size >= sizeof(Word); size -= sizeof(Word), in += sizeof(Word), out += sizeof(Word)) {
        const uint64_t word = *reinterpret_cast<const volatile Word*>(in);
        memcpy(out, &word, sizeof word);
    }
    for (; size > 0; --size) *out++ = *in++;
}

void copy_to_shared(volatile void* to, const void* from, size_t size) {
    auto* out = static_cast<volatile std::byte*>(to);
    const auto* in = static_cast<const std::byte*>(from);
    for (; size >= sizeof(Word); size -= sizeof(Word), in += sizeof(Word), out += sizeof(Word)) {
        uint64_t word;
        memcpy(&word, in, sizeof word);
        *reinterpret_cast<volatile Word*>(out) = word;
    }
    for (; size > 0; --size) *out++ = *in++;
}

Result<GuestMemory> GuestMemory::create(std::span<const Range> ranges, Pages pages) {
    uint64_t total = 0;
    for (const Range& range : ranges) total += range.size;

    GuestMemory memory;
    const std::string what = format("%lu MiB of guest memory", static_cast<unsigned long>(total >> 20));
    const int flags = pages == Pages::kHugeTlb2M ? MAP_HUGETLB | (21 << MAP_HUGE_SHIFT) : 0;
    memory.mapping_ = TRY(Mapping::anonymous(total, limits::kHugePageSize, flags, what));
    if (pages == Pages::kTransparentHuge && madvise(memory.mapping_.data(), total, MADV_HUGEPAGE) < 0)
        return fail_errno("cannot use transparent huge pages for %s", what.c_str());
    // A core dump of the monitor must not hold the guest's secrets, and would take as long as the guest is large.
    madvise(memory.mapping_.data(), total, MADV_DONTDUMP);

    uint64_t offset = 0;
    for (const Range& range : ranges) {
        CHECK(range.size > 0 && range.size % limits::kPageSize == 0 && range.start.value % limits::kPageSize == 0);
        CHECK(memory.regions_.empty() || memory.regions_.back().end() <= range.start.value);
        memory.regions_.push_back({range.start, range.size, memory.mapping_.data() + offset});
        offset += range.size;
    }
    return memory;
}

std::byte* GuestMemory::host_range(GuestAddress address, uint64_t size) const {
    for (const GuestRegion& region : regions_) {
        if (address < region.start) return nullptr;
        const uint64_t offset = address.value - region.start.value;
        if (offset > region.size || (offset == region.size && size > 0)) continue;
        return size <= region.size - offset ? region.host + offset : nullptr;
    }
    return nullptr;
}

std::optional<GuestSlice> GuestMemory::slice(GuestAddress address, uint64_t size) const {
    std::byte* host = host_range(address, size);
    if (!host) return std::nullopt;
    return GuestSlice(host, size);
}

bool GuestMemory::read(GuestAddress address, std::span<std::byte> to) const {
    const auto range = slice(address, to.size());
    if (range) range->copy_to(to);
    return range.has_value();
}

bool GuestMemory::write(GuestAddress address, std::span<const std::byte> from) const {
    const auto range = slice(address, from.size());
    if (range) range->copy_from(from);
    return range.has_value();
}

}  // namespace wisp
