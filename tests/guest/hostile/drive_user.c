// SPDX-License-Identifier: Apache-2.0
//
// The one well-behaved guest here: uses its first drive in every way that its driver may, then waits for a byte on the
// serial port, uses it once more, and resets. Prints "errors=N" after each round.
#include "bench/guest/virtio.h"

enum { kSector = 512, kBlock = 2, kIn = 0, kOut = 1, kFlush = 4, kDiscard = 11, kWriteZeroes = 13 };

static struct queue queue;
static uint64_t features, errors;
static uint8_t* data;

struct header {
    uint32_t type, reserved;
    uint64_t sector;
};
struct range {
    uint64_t sector;
    uint32_t count, flags;
};

static void request(uint32_t type, uint64_t sector, uint32_t size, int writable) {
    static struct header header;
    static volatile uint8_t status;
    header = (struct header){type, 0, sector};
    status = 0xff;
    struct descriptor* d = queue.descriptors;
    d[0] = (struct descriptor){(uint64_t)&header, 16, kNext, size ? 1 : 2};
    d[1] = (struct descriptor){(uint64_t)data, size, (uint16_t)(kNext | (writable ? kWrite : 0)), 2};
    d[2] = (struct descriptor){(uint64_t)&status, 1, kWrite, 0};
    make_available(&queue, 0);
    publish(&queue);
    while (take_used(&queue) < 0) relax();
    if (status != 0) ++errors;
}

static void use(void) {
    request(kOut, 0, 4096, 0);
    request(kOut, 0, 1 << 20, 0);
    request(kIn, 0, 4096, 1);
    request(kIn, 8, 1 << 20, 1);
    if (features & 1 << 9) request(kFlush, 0, 0, 0);
    struct range* range = (struct range*)data;
    *range = (struct range){64, 64, 0};
    if (features & 1 << 13) request(kDiscard, 0, sizeof *range, 0);
    if (features & 1 << 14) request(kWriteZeroes, 0, sizeof *range, 0);
    print_number("errors", errors);
    print("\n");
}

static uint8_t in8(uint16_t port) {
    uint8_t value;
    asm volatile("in %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

void guest_main(const uint8_t* boot_parameters) {
    read_command_line(boot_parameters);
    const uint64_t window = find_device(kBlock);
    if (!window) stop("error: no block device");
    features = start_device(window, 1ull << 29 | 1 << 9 | 1 << 13 | 1 << 14);
    set_up_queue(&queue, window, 0, 256, features);
    finish_device(window);
    data = allocate(1 << 20, 4096);
    use();
    while (!(in8(0x3fd) & 1)) relax();
    use();
    mmio_write(window + 0x70, 0);  // a reset that waits for the device
    stop("done");
}
