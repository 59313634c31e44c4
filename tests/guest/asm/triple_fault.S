# SPDX-License-Identifier: Apache-2.0
# An exception with no way to deliver it.
    .include "guest.inc"
    .globl _start
_start:
    lea empty(%rip), %rax
    lidt (%rax)
    ud2
empty:
    .skip 16
