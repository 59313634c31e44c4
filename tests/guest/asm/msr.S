# SPDX-License-Identifier: Apache-2.0
# Prints IA32_MISC_ENABLE in hexadecimal, then resets.
    .include "guest.inc"
    .globl _start
_start:
    mov $0x1a0, %ecx
    rdmsr
    shl $32, %rdx
    mov %eax, %eax
    or %rax, %rdx
    mov %rdx, %rbx
    mov $16, %ecx
1:  rol $4, %rbx
    mov %bl, %al
    and $15, %al
    add $'0', %al
    cmp $'9', %al
    jbe 2f
    add $('a' - '0' - 10), %al
2:  mov $0x3f8, %edx
    out %al, %dx
    dec %ecx
    jnz 1b
    mov $'\n', %al
    out %al, %dx
    RESET
    HALT
