# SPDX-License-Identifier: Apache-2.0
# Programs channel 2 of the i8254 the way that a TSC calibration does, and waits for its output to rise. Status 0.
    .include "guest.inc"
    .globl _start
_start:
    MAP_MMIO
    mov $0x61, %edx
    in %dx, %al
    and $0xfd, %al
    or $1, %al
    out %al, %dx
    OUT8 0x43, 0xb0                     # channel 2, low then high byte, mode 0
    OUT8 0x42, 0x10
    OUT8 0x42, 0x02
    mov $0x61, %edx
1:  in %dx, %al
    test $0x20, %al
    jz 1b
    EXIT_STATUS 0
    RESET
    HALT
