// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/guest_page.h"

#include <algorithm>
#include <cstring>

#include "base/endian.h"

namespace wisp {

namespace {

constexpr uint64_t kBootTimer = 0;
constexpr std::byte kBootDone{123};
constexpr uint64_t kExitStatus = 8;
constexpr uint32_t kReported = 1u << 31;

constexpr RecordType kRecord{"gpag", "guest_page", 1, Need::kRequired};

}  // namespace

void GuestStatus::handle_read(uint64_t, std::span<std::byte> data) {
    std::ranges::fill(data, std::byte{0});
}

void GuestStatus::handle_write(uint64_t offset, std::span<const std::byte> data) {
    uint64_t left_out = 0;
    if (offset == kBootTimer && data.size() == 1 && data[0] == kBootDone && boot_done_limiter_.allow(left_out))
        on_boot_done_();
    if (offset == kExitStatus && data.size() == sizeof(le32)) {
        le32 status;
        memcpy(&status, data.data(), sizeof status);
        if (status & kReported) exit_status_.store(status, std::memory_order_relaxed);
    }
}

std::optional<unsigned> GuestStatus::exit_status() const {
    const uint32_t status = exit_status_.load(std::memory_order_relaxed);
    if (!status) return std::nullopt;
    return status & ~kReported;
}

void GuestStatus::save(RecordWriter& writer) const {
    const auto scope = writer.leaf(kRecord);
    const auto status = exit_status();
    writer.boolean(status.has_value());
    writer.u32(status.value_or(0));
}

Result<void> GuestStatus::restore(RecordReader& group) {
    RecordReader record = TRY(group.record(kRecord));
    const bool reported = TRY(record.boolean("reported"));
    const uint32_t status = TRY(record.u32("exit_status", 0, ~kReported));
    exit_status_.store(reported ? status | kReported : 0, std::memory_order_relaxed);
    return record.finish();
}

}  // namespace wisp
