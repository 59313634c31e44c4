# SPDX-License-Identifier: Apache-2.0
# Greets on the serial port, then echoes its input until a 'q', polling the line status; then resets.
    .include "guest.inc"
    .globl _start
_start:
    lea greeting(%rip), %rsi
1:  movb (%rsi), %bl
    test %bl, %bl
    jz 3f
    call put
    inc %rsi
    jmp 1b
3:  mov $0x3fd, %edx
    in %dx, %al
    test $1, %al
    jz 3b
    mov $0x3f8, %edx
    in %dx, %al
    mov %al, %bl
    call put
    cmp $'q', %bl
    jne 3b
    RESET
    HALT
put:
    mov $0x3fd, %edx
4:  in %dx, %al
    test $0x20, %al
    jz 4b
    mov $0x3f8, %edx
    mov %bl, %al
    out %al, %dx
    ret
greeting:
    .asciz "hello from ring 0\n"
