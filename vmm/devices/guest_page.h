// SPDX-License-Identifier: Apache-2.0
//
// The page at 0xc0000000 by which a guest reports on itself. Offset 0, one byte: writing 123 marks the end of its boot,
// as Firecracker's boot timer does. Offset 8, 32 bits: the exit status of the command that its init ran, with bit 31
// set (an extension of Wisp's; see kernel-config/README.md).
//
// Threads: vCPU threads; the values are atomics.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>

#include "base/bus.h"

namespace wisp {

class GuestStatus final : public BusDevice {
public:
    /// `on_boot_done` runs on the vCPU thread at each write of 123.
    explicit GuestStatus(std::function<void()> on_boot_done) : on_boot_done_(std::move(on_boot_done)) {}

    void handle_read(uint64_t offset, std::span<std::byte> data) override;
    void handle_write(uint64_t offset, std::span<const std::byte> data) override;

    /// What the guest's init reported, if it did.
    std::optional<unsigned> exit_status() const;

private:
    std::function<void()> on_boot_done_;
    std::atomic<uint32_t> exit_status_ = 0;
};

}  // namespace wisp
