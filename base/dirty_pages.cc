// SPDX-License-Identifier: Apache-2.0
#include "base/dirty_pages.h"

#include <bit>

#include "base/check.h"

namespace wisp {

namespace {

/// The bits of word `word` that stand for pages from `first` to `last`.
uint64_t mask_of(uint64_t word, uint64_t first, uint64_t last) {
    uint64_t mask = ~uint64_t{0};
    if (word == first / 64) mask &= ~uint64_t{0} << first % 64;
    if (word == last / 64) mask &= ~uint64_t{0} >> (63 - last % 64);
    return mask;
}

}  // namespace

void DirtyPages::mark(uint64_t first, uint64_t last) {
    CHECK(first <= last && last / 64 < words_.size());
    for (uint64_t word = first / 64; word <= last / 64; ++word) {
        const uint64_t mask = mask_of(word, first, last);
        // Most pages are marked already: a load is cheaper than a locked instruction.
        if ((words_[word].load(std::memory_order_relaxed) & mask) != mask)
            words_[word].fetch_or(mask, std::memory_order_relaxed);
    }
}

uint64_t DirtyPages::count() const {
    uint64_t sum = 0;
    for (const auto& word : words_) sum += static_cast<uint64_t>(std::popcount(word.load(std::memory_order_relaxed)));
    return sum;
}

void DirtyPages::take(uint64_t first, uint64_t pages, std::span<uint64_t> log) {
    if (pages == 0) return;
    const uint64_t last = first + pages - 1;
    CHECK(last / 64 < words_.size() && log.size() >= (pages + 63) / 64);
    for (uint64_t word = first / 64; word <= last / 64; ++word) {
        const uint64_t mask = mask_of(word, first, last);
        uint64_t taken = words_[word].fetch_and(~mask, std::memory_order_relaxed) & mask;
        for (; taken != 0; taken &= taken - 1) {
            const uint64_t page = word * 64 + static_cast<uint64_t>(std::countr_zero(taken)) - first;
            log[page / 64] |= uint64_t{1} << page % 64;
        }
    }
}

}  // namespace wisp
