// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/reset_vector.h"

#include <array>

#include "vmm/boot/layout.h"
#include "vmm/boot/load/place.h"

namespace wisp::boot {

Result<void> write_reset_vector(const GuestMemory& memory) {
    static_assert(kKeyboardCommandPort <= 0xff);  // `out` with an immediate port
    constexpr std::array<uint8_t, 7> kCode{
        0xb0, kResetCommand,         // mov $kResetCommand, %al
        0xe6, kKeyboardCommandPort,  // out %al, $kKeyboardCommandPort
        0xf4,                        // 1: hlt
        0xeb, 0xfd,                  // jmp 1b
    };
    static_assert(kResetVector.value + sizeof kCode <= kHighRam.value);
    return place(memory, kResetVector, kCode, "reset vector");
}

}  // namespace wisp::boot
