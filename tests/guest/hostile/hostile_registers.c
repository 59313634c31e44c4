// SPDX-License-Identifier: Apache-2.0
//
// Reads and writes every register of the transport, at every state, with every width and at every byte.
#include "tests/guest/hostile/hostile.h"

static const uint32_t states[] = {0, 1, 3, 11, 15, 0x80};
static const uint64_t values[] = {0, 1, 0xffffffffffffffff, 0x8000000000000001};

static void access(uint64_t at, uint64_t value) {
    *(volatile uint8_t*)at = (uint8_t)value;
    (void)*(volatile uint8_t*)at;
    *(volatile uint16_t*)at = (uint16_t)value;
    (void)*(volatile uint16_t*)at;
    *(volatile uint64_t*)at = value;
    (void)*(volatile uint64_t*)at;
    *(volatile uint32_t*)at = (uint32_t)value;
    (void)*(volatile uint32_t*)at;
}

static void reach(uint32_t state) {
    mmio_write(kFirstWindow + kStatus, 0);
    for (unsigned i = 1; i < 5 && states[i] <= state; ++i) {
        if (states[i] == 11) {
            mmio_write(kFirstWindow + 0x24, 1);
            mmio_write(kFirstWindow + 0x20, 1);  // VERSION_1
        }
        mmio_write(kFirstWindow + kStatus, states[i]);
    }
    if (state == 0x80) mmio_write(kFirstWindow + kStatus, 0x80);
}

void guest_main(const uint8_t* boot_parameters) {
    read_command_line(boot_parameters);
    for (unsigned s = 0; s < sizeof states / sizeof *states; ++s)
        for (unsigned v = 0; v < sizeof values / sizeof *values; ++v) {
            reach(states[s]);
            for (uint64_t offset = 0; offset < 0x140; ++offset) {
                access(kFirstWindow + offset, values[v]);
                if (offset == kStatus + 7) reach(states[s]);  // what was written there may have been a reset
            }
            access(kFirstWindow + 0xff8, values[v]);
            access(kFirstWindow + 0xffd, values[v]);  // across the end of the window, into the next
        }
    survived();
}
