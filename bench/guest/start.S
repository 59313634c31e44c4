# SPDX-License-Identifier: Apache-2.0
# From the boot protocol's entry (ring 0, long mode, boot parameters at rsi) to main() in ring 3. Ring 0 may be emulated,
# slowly and in part, so it does as little as it can: page tables that ring 3 may use, a GDT, IRETQ.
    .code64
    .section .text.start, "ax"
    .globl _start
_start:
    mov %rsi, %r15
    # Guest physical 0 to 1 GiB and 0xc0000000 to 0xc01fffff, both mapped to themselves, for ring 3.
    lea pml4(%rip), %rdi
    lea pdpt(%rip), %rax
    or $7, %rax
    mov %rax, (%rdi)
    lea pdpt(%rip), %rdi
    lea pd_low(%rip), %rax
    or $7, %rax
    mov %rax, (%rdi)
    lea pd_mmio(%rip), %rax
    or $7, %rax
    mov %rax, 24(%rdi)
    lea pd_mmio(%rip), %rdi
    mov $0xc0000097, %eax               # present, writable, user, cache disabled, 2 MiB
    mov %rax, (%rdi)
    lea pd_low(%rip), %rdi
    mov $0x87, %eax                     # present, writable, user, 2 MiB
    mov $512, %ecx
1:  mov %rax, (%rdi)
    add $8, %rdi
    add $0x200000, %rax
    dec %ecx
    jnz 1b
    lea pml4(%rip), %rax
    mov %rax, %cr3

    lea gdt(%rip), %rax
    mov %rax, gdt_pointer+2(%rip)
    lgdt gdt_pointer(%rip)
    # A task segment whose I/O bitmap is all zeroes: ring 3 may use every port (not every host honours IOPL).
    lea task(%rip), %rax
    movw $104, 102(%rax)
    mov %ax, task_descriptor+2(%rip)
    shr $16, %rax
    mov %al, task_descriptor+4(%rip)
    mov %ah, task_descriptor+7(%rip)
    mov $0x28, %eax
    ltr %ax
    lea stack_top(%rip), %rbx
    push $0x1b                          # ss: user data
    push %rbx
    push $0x3002                        # rflags: IOPL 3, interrupts off
    push $0x23                          # cs: user code
    lea ring3(%rip), %rax
    push %rax
    iretq
ring3:
    mov %r15, %rdi
    call guest_main
2:  pause
    jmp 2b

    .balign 16
gdt:
    .quad 0
    .quad 0x00cf92000000ffff            # 0x08 kernel data
    .quad 0x00af9a000000ffff            # 0x10 kernel code
    .quad 0x00cff2000000ffff            # 0x18 user data
    .quad 0x00affa000000ffff            # 0x20 user code
task_descriptor:
    .quad 0x0000890000002068            # 0x28 task, 104 bytes and 64 Ki ports
    .quad 0
gdt_pointer:
    .word 55
    .quad 0

    .bss
    .balign 4096
pml4:    .skip 4096
pdpt:    .skip 4096
pd_low:  .skip 4096
pd_mmio: .skip 4096
task:    .skip 104 + 8192 + 8
    .balign 16
    .skip 65536
stack_top:
    .section .note.GNU-stack, "", @progbits
