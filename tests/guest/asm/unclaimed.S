# SPDX-License-Identifier: Apache-2.0
# Reads and writes where nobody lives; all reads must give ones. Status 0 if they do, 1 if not.
    .include "guest.inc"
    .globl _start
_start:
    MAP_MMIO
    mov $0xc0100000, %edi
    mov %rax, (%rdi)
    mov (%rdi), %rax
    cmp $-1, %rax
    jne bad
    movb $1, 3(%rdi)
    mov $0x1234, %edx
    in %dx, %al
    cmp $0xff, %al
    jne bad
    out %eax, %dx
    in %dx, %eax
    cmp $-1, %eax
    jne bad
    mov $0xcfc, %edx                    # no PCI
    in %dx, %eax
    cmp $-1, %eax
    jne bad
    EXIT_STATUS 0
    RESET
bad:
    EXIT_STATUS 1
    RESET
    HALT
