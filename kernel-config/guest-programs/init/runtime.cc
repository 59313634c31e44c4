// SPDX-License-Identifier: Apache-2.0
// What a C library would bring: the entry point, and the few functions that the compiler calls by itself.

#include <cstddef>

#include "init.h"
#include "sys.h"

// The kernel enters with argc, argv and envp on the stack, which is 16-byte aligned and has no return address.
asm(".globl _start\n"
    "_start:\n"
    "    xor %ebp, %ebp\n"
    "    mov %rsp, %rdi\n"
    "    call enter\n");

extern "C" [[noreturn]] void enter(const long* stack) {
    const int argument_count = static_cast<int>(stack[0]);
    const auto* arguments = reinterpret_cast<const char* const*>(stack + 1);
    sys::exit(run_program(argument_count, arguments));
}

extern "C" {

void* memcpy(void* to, const void* from, size_t size) {
    void* const result = to;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return result;
}

void* memmove(void* to, const void* from, size_t size) {
    auto* t = static_cast<unsigned char*>(to);
    const auto* f = static_cast<const unsigned char*>(from);
    if (t <= f) return memcpy(to, from, size);
    while (size-- != 0) {
        t[size] = f[size];
        asm volatile("" : : : "memory");  // or the compiler makes this loop a call of memmove
    }
    return to;
}

void* memset(void* to, int value, size_t size) {
    void* const result = to;
    asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return result;
}

int memcmp(const void* a, const void* b, size_t size) {
    const auto* x = static_cast<const unsigned char*>(a);
    const auto* y = static_cast<const unsigned char*>(b);
    for (size_t i = 0; i < size; i++) {
        if (x[i] != y[i]) return x[i] - y[i];
    }
    return 0;
}

void* memchr(const void* bytes, int value, size_t size) {
    const auto* b = static_cast<const unsigned char*>(bytes);
    for (size_t i = 0; i < size; i++) {
        if (b[i] == static_cast<unsigned char>(value)) return const_cast<unsigned char*>(b + i);
    }
    return nullptr;
}

size_t strlen(const char* text) {
    size_t size = 0;
    while (text[size] != 0) {
        size++;
        asm volatile("" : : : "memory");  // or the compiler makes this loop a call of strlen
    }
    return size;
}

}  // extern "C"
