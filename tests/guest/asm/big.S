# SPDX-License-Identifier: Apache-2.0
# Has 64 pages of known bytes in its image. Marks the boot timer, waits for a byte on the serial port, then checks them
# all for the first time: status 0 if they are as they were linked. So nothing that happens to the kernel file after
# the start reaches the guest.
    .include "guest.inc"
    .globl _start
_start:
    MAP_MMIO
    BOOT_TIMER
    mov $0x3fd, %edx
1:  in %dx, %al
    test $1, %al
    jz 1b
    lea pattern(%rip), %rsi
    mov $64, %ecx
2:  cmpl $0x57697370, (%rsi)
    jne bad
    add $4096, %rsi
    dec %ecx
    jnz 2b
    EXIT_STATUS 0
    RESET
bad:
    EXIT_STATUS 1
    RESET
    HALT
    .data
    .balign 4096
pattern:
    .rept 64
    .long 0x57697370
    .skip 4092, 0x5a
    .endr
