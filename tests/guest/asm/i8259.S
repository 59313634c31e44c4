# SPDX-License-Identifier: Apache-2.0
# The i8259 begins with every line masked; its mask and which of its lines are level-triggered can be set and read back.
# Status: 0, or the number of what was not so.
    .include "guest.inc"
    .globl _start
_start:
    MAP_MMIO
    mov $0x21, %edx
    in %dx, %al
    mov $1, %ebx
    cmp $0xff, %al
    jne bad
    OUT8 0x21, 0xef
    mov $0x21, %edx
    in %dx, %al
    inc %ebx
    cmp $0xef, %al
    jne bad
    OUT8 0x4d0, 0xff                    # ELCR: lines 0 to 2 cannot be
    mov $0x4d0, %edx
    in %dx, %al
    inc %ebx
    cmp $0xf8, %al
    jne bad
    xor %ebx, %ebx
bad:
    or $0x80000000, %ebx                # as EXIT_STATUS does
    mov $0xc0000008, %edi
    mov %ebx, (%rdi)
    RESET
    HALT
