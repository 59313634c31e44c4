// SPDX-License-Identifier: Apache-2.0
#include "base/guest_memory.h"

#include <cstring>

#include "base/check.h"
#include "base/limits.h"

namespace wisp {

namespace {

// The compiler can neither repeat nor leave out a volatile access, and x86 allows one at any alignment.
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

Result<GuestMemory> GuestMemory::create(std::span<const Range> ranges, MemoryBacking backing) {
    uint64_t total = 0;
    for (const Range& range : ranges) total += range.size;

    GuestMemory memory;
    memory.backing_ = std::move(backing);
    memory.mapping_ = TRY(memory.backing_.map(total));
    uint64_t offset = 0;
    for (const Range& range : ranges) {
        CHECK(range.size > 0 && range.size % limits::kPageSize == 0 && range.start.value % limits::kPageSize == 0);
        CHECK(memory.regions_.empty() || memory.regions_.back().end() <= range.start.value);
        memory.regions_.push_back({range.start, range.size, memory.mapping_.data() + offset});
        offset += range.size;
    }
    return memory;
}

std::byte* GuestMemory::find(GuestAddress address, uint64_t size) const {
    for (const GuestRegion& region : regions_) {
        if (address < region.start) return nullptr;
        const uint64_t offset = address.value - region.start.value;
        if (offset > region.size || (offset == region.size && size > 0)) continue;
        if (size > region.size - offset) return nullptr;
        return mapping_.data() + (region.host - mapping_.data()) + offset;
    }
    return nullptr;
}

std::optional<GuestSlice> GuestMemory::slice(GuestAddress address, uint64_t size) const {
    std::byte* host = find(address, size);
    if (!host) return std::nullopt;
    return GuestSlice(host, size);
}

std::optional<WritableSlice> GuestMemory::writable(GuestAddress address, uint64_t size) const {
    std::byte* host = find(address, size);
    if (!host) return std::nullopt;
    if (dirty_) [[unlikely]]
        mark(host, size);
    return WritableSlice(host, size);
}

bool GuestMemory::read(GuestAddress address, std::span<std::byte> to) const {
    const auto range = slice(address, to.size());
    if (range) range->copy_to(to);
    return range.has_value();
}

bool GuestMemory::write(GuestAddress address, std::span<const std::byte> from) const {
    const auto range = writable(address, from.size());
    if (range) range->copy_from(from);
    return range.has_value();
}

void GuestMemory::track_writes() {
    dirty_ = std::make_unique<DirtyPages>(total_size() / limits::kPageSize);
}

void GuestMemory::mark(const std::byte* host, uint64_t size) const {
    if (size == 0) return;
    const auto offset = static_cast<uint64_t>(host - mapping_.data());
    dirty_->mark(offset / limits::kPageSize, (offset + size - 1) / limits::kPageSize);
}

void GuestMemory::take_written_pages(size_t region, std::span<uint64_t> log) const {
    CHECK(dirty_ && region < regions_.size());
    const auto offset = static_cast<uint64_t>(regions_[region].host - mapping_.data());
    dirty_->take(offset / limits::kPageSize, regions_[region].size / limits::kPageSize, log);
}

}  // namespace wisp
