#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Creates a VM, runs eight bytes of real-mode code in it and prints what the guest wrote to port 0x3f8: "3"."""

import ctypes
import fcntl
import mmap
import os
import struct

# linux/kvm.h: numbers of the ioctls and sizes of their arguments
KVM_CREATE_VM, KVM_GET_VCPU_MMAP_SIZE, KVM_CREATE_VCPU = 0xAE01, 0xAE04, 0xAE41
KVM_SET_USER_MEMORY_REGION, KVM_RUN = 0x4020AE46, 0xAE80
KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS = 0x4090AE82, 0x8138AE83, 0x4138AE84
KVM_EXIT_IO, KVM_EXIT_HLT = 2, 5
EXIT_REASON_AT, IO_AT = 8, 32  # offsets in struct kvm_run

LOAD_AT = 0x1000
CODE = bytes.fromhex("ba f8 03  00 d8  ee  f4  90")  # mov dx, 0x3f8; add al, bl; out dx, al; hlt

kvm = os.open("/dev/kvm", os.O_RDWR)
vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
memory = mmap.mmap(-1, 0x2000)
memory[LOAD_AT:LOAD_AT + len(CODE)] = CODE
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
fcntl.ioctl(vm, KVM_SET_USER_MEMORY_REGION, struct.pack("=IIQQQ", 0, 0, 0, len(memory), address))
vcpu = fcntl.ioctl(vm, KVM_CREATE_VCPU, 0)
run = mmap.mmap(vcpu, fcntl.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0))

sregs = bytearray(312)
fcntl.ioctl(vcpu, KVM_GET_SREGS, sregs)
struct.pack_into("=Q", sregs, 0, 0)  # cs.base
struct.pack_into("=H", sregs, 12, 0)  # cs.selector
fcntl.ioctl(vcpu, KVM_SET_SREGS, sregs)
regs = [0] * 18
regs[0], regs[1], regs[16], regs[17] = 1, ord("2"), LOAD_AT, 2  # rax, rbx, rip, rflags
fcntl.ioctl(vcpu, KVM_SET_REGS, struct.pack("=18Q", *regs))

while True:
    fcntl.ioctl(vcpu, KVM_RUN, 0)
    (reason,) = struct.unpack_from("=I", run, EXIT_REASON_AT)
    if reason == KVM_EXIT_HLT:
        break
    if reason != KVM_EXIT_IO:
        raise SystemExit(f"unexpected exit {reason}")
    (data_at,) = struct.unpack_from("=Q", run, IO_AT + 8)
    print(chr(run[data_at]))
