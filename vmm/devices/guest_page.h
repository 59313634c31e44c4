// SPDX-License-Identifier: Apache-2.0
//
// GuestStatus: the page at 0xc0000000 by which a guest reports on itself. Offset 0, one byte: 123 marks the end of its
// boot, as with Firecracker's boot timer. Offset 8, 32 bits: the exit status of the command that its init ran, with
// bit 31 set (an extension of Wisp's; see kernel-config/README.md).
//
// Threads: handle_*() on vCPU threads; the values are atomics. save() and restore() need the vCPUs to be stopped.
// Trust: the guest may write anything, as often as it likes.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>

#include "base/bus.h"
#include "base/log.h"
#include "base/record.h"

namespace wisp {

class GuestStatus final : public BusDevice {
public:
    /// `on_boot_done` runs on the vCPU thread when the guest writes 123, as often as a log line may be written: a guest
    /// that repeats it only counts up log::left_out().
    explicit GuestStatus(std::function<void()> on_boot_done) : on_boot_done_(std::move(on_boot_done)) {}

    void handle_read(uint64_t offset, std::span<std::byte> data) override;
    void handle_write(uint64_t offset, std::span<const std::byte> data) override;

    /// The exit status that the guest's init reported, if it did.
    std::optional<unsigned> exit_status() const;

    void save(RecordWriter& writer) const;
    Result<void> restore(RecordReader& group);

private:
    std::function<void()> on_boot_done_;
    log::Limiter boot_done_limiter_;
    std::atomic<uint32_t> exit_status_ = 0;
};

}  // namespace wisp
