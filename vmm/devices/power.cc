// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/power.h"

#include <algorithm>

#include "vmm/boot/layout.h"

namespace wisp {

void PowerDevice::handle_read(uint64_t, std::span<std::byte> data) {
    std::ranges::fill(data, std::byte{0});
}

void PowerDevice::handle_write(uint64_t offset, std::span<const std::byte> data) {
    if (offset == 0 && data[0] == std::byte{boot::kPowerOffCommand})
        stop_.request({ExitCode::kOk, "the guest powered the machine off"});
}

}  // namespace wisp
