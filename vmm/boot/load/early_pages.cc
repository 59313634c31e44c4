// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/load/early_pages.h"

#include <algorithm>

#include "base/limits.h"
#include "vmm/boot/load/place.h"

namespace wisp::boot {

namespace {

constexpr uint64_t kPiece = 2 * limits::kMiB;         // a huge page of the host: one fault
constexpr uint64_t kBehindKernel = 6 * limits::kMiB;  // Linux 6.1 touches this much there before its init runs
constexpr uint64_t kAtEnd = 4 * limits::kMiB;
constexpr uint64_t kPageStruct = 64;  // bytes for each page
constexpr uint64_t kMost = 32 * limits::kMiB;

void add_pieces(const GuestMemory& memory, uint64_t from, uint64_t to, std::vector<GuestSlice>& pieces) {
    while (from < to) {
        const uint64_t next = std::min(to, align_up(from + 1, kPiece));
        if (const auto piece = memory.slice({from}, next - from)) pieces.push_back(*piece);
        from = next;
    }
}

}  // namespace

std::vector<GuestSlice> early_pages(const GuestMemory& memory, const LoadedKernel& kernel) {
    std::vector<GuestSlice> pieces;
    if (memory.regions().empty()) return pieces;
    const uint64_t ram_end = memory.regions().front().end();

    const uint64_t image_end = std::min(ram_end, align_up(kernel.end.value, limits::kPageSize));
    const uint64_t behind = std::min(ram_end, align_down(image_end + kBehindKernel, kPiece));
    add_pieces(memory, image_end, behind, pieces);

    const uint64_t at_end = std::min(kMost, kAtEnd + memory.total_size() / limits::kPageSize * kPageStruct);
    add_pieces(memory, std::max(behind, ram_end - std::min(ram_end, at_end)), ram_end, pieces);
    return pieces;
}

}  // namespace wisp::boot
