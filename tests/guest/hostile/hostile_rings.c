// SPDX-License-Identifier: Apache-2.0
//
// Queues of every wrong size and in every wrong place. The drive must ask for a reset each time, and work after it.
#include "tests/guest/hostile/hostile.h"

struct layout {
    uint32_t size;
    uint64_t descriptors, driver, device;
};
enum { A = 0x2800000, B = 0x2900000, C = 0x2a00000 };
static const struct layout layouts[] = {
    {0, A, B, C},
    {3, A, B, C},
    {16, A, A, C},
    {16, A, B, B},
    {16, A, B, A},
    {16, A, A + 0xf8, C},
    {16, A + 8, B, C},
    {16, A, B + 1, C},
    {16, A, B, C + 2},
    {16, kFirstWindow, B, C},
    {16, A, kFirstWindow + 0x50, C},
    {16, A, B, 0xc0000000},
    {256, kMemoryEnd - 16, B, C},
    {256, A, kMemoryEnd - 16, C},
    {256, A, B, kMemoryEnd - 16},
    {16, kMemoryEnd, B, C},
    {16, 0xfffffffffffffff0, B, C},
    {16, A, 0xfffffffffffffffe, C},
    {16, A, B, 0xfffffffffffffffc},
    {16, 0x8000000000000000, 0x8000000000010000, 0x8000000000020000},
    {16, 0xfee00000, 0xfec00000, 0xfff00000},
};

void guest_main(const uint8_t* boot_parameters) {
    read_command_line(boot_parameters);
    for (unsigned i = 0; i < sizeof layouts / sizeof *layouts; ++i) {
        const struct layout* l = layouts + i;
        start_device(kFirstWindow, 0);
        mmio_write(kFirstWindow + kQueueSelect, 0);
        mmio_write(kFirstWindow + kQueueSize, l->size);
        write64(kFirstWindow + kDescriptors, l->descriptors);
        write64(kFirstWindow + kDriverArea, l->driver);
        write64(kFirstWindow + kDeviceArea, l->device);
        mmio_write(kFirstWindow + kQueueReady, 1);
        finish_device(kFirstWindow);
        mmio_write(kFirstWindow + kQueueNotify, 0);
        while (!is_broken(kFirstWindow)) relax();
        check_drive(kFirstWindow, "after a bad ring");
    }
    survived();
}
