# SPDX-License-Identifier: Apache-2.0
# Touches MMIO as soon as it can, then idles: the time to a guest's first instructions.
    .include "guest.inc"
    .globl _start
_start:
    MAP_MMIO
    BOOT_TIMER
    HALT
