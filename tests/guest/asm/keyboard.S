# SPDX-License-Identifier: Apache-2.0
# A driver for the keyboard controller: tests it as Linux does, says so, and prints each byte that an interrupt on line 1
# brings, in hexadecimal. After 22 of them (two times three keys, pressed and released) it resets. Status 1: a wrong answer.
    .include "guest.inc"

# Waits for a byte and compares it.
.macro EXPECT value
    call take
    cmp $\value, %al
    jne wrong
.endm
.macro COMMAND value
    OUT8 0x64, \value
.endm
.macro DATA value
    OUT8 0x60, \value
.endm

    .globl _start
_start:
    MAP_MMIO
    COMMAND 0xaa                        # self-test
    EXPECT 0x55
    COMMAND 0xab                        # keyboard port test
    EXPECT 0x00
    COMMAND 0x60                        # command byte: no interrupts for now
    DATA 0x04
    COMMAND 0x20
    EXPECT 0x04
    COMMAND 0xd3                        # mouse loop: the answer is not marked as a mouse's
    DATA 0x5a
    in %dx, %al
    mov $0x64, %edx
    in %dx, %al
    test $0x20, %al
    jnz wrong
    DATA 0xff                           # keyboard: reset
    EXPECT 0xfa
    EXPECT 0xaa
    DATA 0xf2                           # identify
    EXPECT 0xfa
    EXPECT 0xab
    EXPECT 0x83
    DATA 0xf0                           # which scan code set?
    EXPECT 0xfa
    DATA 0x00
    EXPECT 0xfa
    EXPECT 0x02
    DATA 0xed                           # lights
    EXPECT 0xfa
    DATA 0x07
    EXPECT 0xfa
    mov $0x64, %edx                     # nothing is left
    in %dx, %al
    test $1, %al
    jnz wrong

    lea on_key(%rip), %rax              # an interrupt gate at vector 0x21, in the code segment that we are in
    lea idt + 0x21 * 16(%rip), %rdi
    mov %ax, (%rdi)
    mov %cs, %cx
    mov %cx, 2(%rdi)
    movw $0x8e00, 4(%rdi)
    shr $16, %rax
    mov %ax, 6(%rdi)
    shr $16, %rax
    mov %eax, 8(%rdi)
    lea idt(%rip), %rax
    mov %rax, idt_base(%rip)
    lidt idt_limit(%rip)
    lea stack_end(%rip), %rsp

    OUT8 0x20, 0x11                     # the PIC: line 0 is vector 0x20, line 1 alone is on
    OUT8 0x21, 0x20
    OUT8 0x21, 0x04
    OUT8 0x21, 0x01
    OUT8 0x21, 0xfd
    COMMAND 0x60                        # the keyboard may interrupt
    DATA 0x05
    DATA 0xee                           # echo: an interrupt brings the answer
    sti
    HALT

ready:
    BOOT_TIMER
    OUT8 0x20, 0x20
    iretq

on_key:
    mov $0x60, %edx
    in %dx, %al
    cmp $0xee, %al                      # the answer to the echo, not a key
    je ready
    mov %al, %bl
    shr $4, %al
    call digit
    mov %bl, %al
    and $15, %al
    call digit
    mov $' ', %al
    call put
    decl left(%rip)
    jz done
    OUT8 0x20, 0x20                     # end of interrupt
    iretq

done:
    mov $'\n', %al
    call put
    EXIT_STATUS 0
    RESET
    HALT
wrong:
    EXIT_STATUS 1
    RESET
    HALT

take:
    mov $0x64, %edx
1:  in %dx, %al
    test $1, %al
    jz 1b
    mov $0x60, %edx
    in %dx, %al
    ret
digit:
    add $'0', %al
    cmp $'9', %al
    jbe put
    add $('a' - '0' - 10), %al
put:
    mov $0x3f8, %edx
    out %al, %dx
    ret

    .data
left:
    .long 22
idt_limit:
    .word 0x22 * 16 - 1
idt_base:
    .quad 0
    .bss
    .balign 16
idt:
    .skip 0x22 * 16
    .skip 4096
stack_end:
