// SPDX-License-Identifier: Apache-2.0
// How a VM ends. A power-off must end the monitor's process, with every kernel. A kernel with ACPI powers off. One
// without ACPI resets the machine, and a reset is the end of a microVM.

#include <cstring>

#include "init.h"

namespace {

// The kernel makes a "halt" of a power-off that it cannot do, and a halted VM stays for ever. So ask the table that
// the kernel asks: a hardware-reduced machine powers off only if the FADT names a sleep control register.
bool kernel_can_power_off() {
    constexpr size_t kFlagsOffset = 112;
    constexpr size_t kSleepControlAddressOffset = 248;
    constexpr uint32_t kHardwareReduced = 1U << 20;
    uint8_t fadt[256];
    const int file = sys::open("/sys/firmware/acpi/tables/FACP", O_RDONLY);
    if (file < 0) return false;
    const long size = sys::read(file, fadt, sizeof fadt);
    sys::close(file);
    if (size < static_cast<long>(kFlagsOffset + sizeof(uint32_t))) return false;
    uint32_t flags;
    memcpy(&flags, fadt + kFlagsOffset, sizeof flags);
    if ((flags & kHardwareReduced) == 0) return true;
    if (size < static_cast<long>(sizeof fadt)) return false;
    uint64_t sleep_control;
    memcpy(&sleep_control, fadt + kSleepControlAddressOffset, sizeof sleep_control);
    return sleep_control != 0;
}

}  // namespace

void end_machine(End end) {
    // A halted VM would only idle for ever: halt is a power-off here.
    const bool power_off = end != End::kReboot && kernel_can_power_off();
    const int error = sys::reboot(power_off ? static_cast<int>(RB_POWER_OFF) : static_cast<int>(RB_AUTOBOOT));
    say("cannot end the machine: ", error_text(error));
    for (;;) {
        if (sys::getpid() != 1) sys::exit(1);
        sys::sleep_ms(1000);
    }
}
