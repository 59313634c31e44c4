// SPDX-License-Identifier: Apache-2.0
#include "vmm/legacy/i8042.h"

namespace wisp {

namespace {

// Status register: both buffers empty, self-test passed, keyboard not locked.
constexpr std::byte kStatusIdle{0x14};
// "Pulse output port" with bit 0 low: the line that resets the CPU. What `reboot=k` writes.
constexpr std::byte kCommandReset{0xfe};

}  // namespace

void I8042::CommandPort::handle_read(uint64_t, std::span<std::byte> data) {
    data[0] = kStatusIdle;
}

void I8042::CommandPort::handle_write(uint64_t, std::span<const std::byte> data) {
    if (data[0] == kCommandReset) owner_.stop_.request({ExitCode::kOk, "the guest reset the machine"});
}

}  // namespace wisp
