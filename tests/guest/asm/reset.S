# SPDX-License-Identifier: Apache-2.0
# Resets at once: the shortest life of a VM.
    .include "guest.inc"
    .globl _start
_start:
    RESET
    HALT
