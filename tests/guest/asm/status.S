# SPDX-License-Identifier: Apache-2.0
# Reports an exit status of 42, marks the boot timer twice, then resets.
    .include "guest.inc"
    .globl _start
_start:
    MAP_MMIO
    BOOT_TIMER
    BOOT_TIMER
    EXIT_STATUS 42
    RESET
    HALT
