// SPDX-License-Identifier: Apache-2.0
//
// What bench guests share: no library, no interrupts, one vCPU in ring 3.
#pragma once

#include <stddef.h>
#include <stdint.h>

// MMIO and ports
static inline uint32_t mmio_read(uint64_t at) {
    return *(volatile uint32_t*)at;
}
static inline void mmio_write(uint64_t at, uint32_t value) {
    *(volatile uint32_t*)at = value;
}
static inline void out8(uint16_t port, uint8_t value) {
    asm volatile("out %0, %1" ::"a"(value), "Nd"(port));
}

static inline uint64_t tsc(void) {
    uint32_t low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}
static inline void fence(void) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
static inline void relax(void) {
    asm volatile("pause");
}

void* memset(void* to, int value, size_t size);
static inline void copy(void* to, const void* from, size_t size) {
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size)::"memory");
}

// Console: the first serial port
void print(const char* text);
void print_number(const char* name, uint64_t value);  // " name=value"

// The kernel command line: `name=value`, and a default where it has none.
void read_command_line(const uint8_t* boot_parameters);
uint64_t option(const char* name, uint64_t otherwise);
int option_is(const char* name, const char* value);

__attribute__((noreturn)) void stop(const char* why);  // prints, and ends the machine by its reset line

// Memory of the guest's own, zeroed, never freed.
void* allocate(size_t size, size_t alignment);

static inline uint64_t random_next(uint64_t* state) {  // xorshift64*
    uint64_t x = *state;
    x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1dull;
}
