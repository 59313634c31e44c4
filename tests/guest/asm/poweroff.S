# SPDX-License-Identifier: Apache-2.0
# Powers off by the ACPI sleep control register.
    .include "guest.inc"
    .globl _start
_start:
    OUT8 0x600, 0x34
    HALT
