// SPDX-License-Identifier: Apache-2.0
//
// Reads and writes every port, with every width, but for those that end the machine; memory where nobody lives; every
// leaf of CPUID; then floods the serial port.
#include "tests/guest/hostile/hostile.h"

enum { kFlood = 100000 };

static int ends_the_machine(uint32_t port) {
    return (port >= 0x60 && port <= 0x64) || (port >= option("sleep", 0x600) - 4 && port < option("sleep", 0x600) + 8);
}

static void access(uint16_t port) {
    uint8_t b;
    uint16_t w;
    uint32_t l;
    asm volatile("in %1, %0" : "=a"(b) : "Nd"(port));
    asm volatile("in %1, %0" : "=a"(w) : "Nd"(port));
    asm volatile("in %1, %0" : "=a"(l) : "Nd"(port));
    asm volatile("out %0, %1" ::"a"(b), "Nd"(port));
    asm volatile("out %0, %1" ::"a"(w), "Nd"(port));
    asm volatile("out %0, %1" ::"a"(l), "Nd"(port));
}

static void cpuid(uint32_t leaf, uint32_t subleaf) {
    uint32_t a = leaf, b, c = subleaf, d;
    asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
}

void guest_main(const uint8_t* boot_parameters) {
    read_command_line(boot_parameters);
    static const uint32_t bases[] = {0, 0x40000000, 0x80000000, 0xc0000000, 0xffffff00};
    for (unsigned i = 0; i < sizeof bases / sizeof *bases; ++i)
        for (uint32_t leaf = 0; leaf < 48; ++leaf)
            for (uint32_t subleaf = 0; subleaf < 4; ++subleaf) cpuid(bases[i] + leaf, subleaf);
    // Ports of the devices and their neighbours one by one, the rest of the space in steps.
    for (uint32_t port = 0; port < 0x10000; port += port < 0x500 ? 1 : 61)
        if (!ends_the_machine(port)) access((uint16_t)port);
    for (uint64_t at = 0xc0000010; at < 0xc0200000; at += 0xff9)
        if (at >= 0xc0003000) {
            *(volatile uint64_t*)at = ~0ull;
            (void)*(volatile uint64_t*)at;
        }
    for (unsigned i = 0; i < kFlood; ++i) out8(0x3f8, (uint8_t)('a' + i % 26));
    print("\n");
    // The serial port's own registers were written to as well: back to what its driver would set.
    out8(0x3fb, 3);
    out8(0x3f9, 0);
    out8(0x3fa, 7);
    survived();
}
