# SPDX-License-Identifier: Apache-2.0
# Marks the end of its boot 2,000 times, then resets.
    .include "guest.inc"
    .globl _start
_start:
    MAP_MMIO
    mov $2000, %r15d
1:  BOOT_TIMER
    dec %r15d
    jnz 1b
    RESET
    HALT
