// SPDX-License-Identifier: Apache-2.0
//
// DirtyPages: one bit for each page of guest memory, set when the monitor writes to the page. KVM's dirty log has what
// the vCPUs write; it does not see writes by the monitor or by system calls that the monitor makes. A snapshot of the
// changed pages needs both.
//
// Threads: mark() may be called on any thread. take() needs all writers to be stopped, so that no write lands between
// the mark and the moment at which it is taken.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

namespace wisp {

class DirtyPages {
public:
    /// `pages` pages, none marked.
    explicit DirtyPages(uint64_t pages) : words_((pages + 63) / 64) {}

    /// Marks the pages from `first` to `last`, both included.
    void mark(uint64_t first, uint64_t last);
    bool is_marked(uint64_t page) const { return words_[page / 64].load(std::memory_order_relaxed) >> page % 64 & 1; }
    /// Pages that are marked.
    uint64_t count() const;
    /// Clears the marks of `pages` pages from `first` on, and sets a bit in `log` for each that was marked. Bit 0 of
    /// log[0] is page `first`, the order of KVM_GET_DIRTY_LOG. Bits that are set in `log` stay set.
    void take(uint64_t first, uint64_t pages, std::span<uint64_t> log);

private:
    std::vector<std::atomic<uint64_t>> words_;
};

}  // namespace wisp
