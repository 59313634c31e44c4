// SPDX-License-Identifier: Apache-2.0
//
// A well-behaved guest whose first drive lies on a file system that the host freezes. After a byte on the serial port
// it writes to that drive, flushes and discards, while it reads from its other drive; after another byte it waits for
// the writes. Prints "other drive done", then "thawed, errors=N".
#include "tests/guest/hostile/hostile.h"

enum { kWrites = 64, kReads = 2000, kDiscard = 11 };

struct drive {
    struct queue queue;
    struct block_header headers[kWrites + 1];
    volatile uint8_t statuses[kWrites + 1];
};

static struct drive frozen, other;
static uint8_t* data;
static struct range {
    uint64_t sector;
    uint32_t count, flags;
} range = {64, 64, 0};

static uint64_t start(struct drive* drive, uint64_t window) {
    const uint64_t features = start_device(window, 1ull << 29 | 1 << 9 | 1 << 13);
    renew_queue(&drive->queue, window, 0, 256, features);
    finish_device(window);
    return features;
}

static void send(struct drive* drive, unsigned slot, uint32_t type, uint64_t sector, void* at, uint32_t size) {
    struct descriptor* d = drive->queue.descriptors + slot * 3;
    drive->headers[slot] = (struct block_header){type, 0, sector};
    drive->statuses[slot] = 0xff;
    d[0] = (struct descriptor){(uint64_t)(drive->headers + slot), 16, kNext, (uint16_t)(slot * 3 + 1)};
    d[1] = (struct descriptor){(uint64_t)at, size, (uint16_t)(kNext | (type ? 0 : kWrite)), (uint16_t)(slot * 3 + 2)};
    d[2] = (struct descriptor){(uint64_t)(drive->statuses + slot), 1, kWrite, 0};
    make_available(&drive->queue, (uint16_t)(slot * 3));
}

static uint64_t wait_for(struct drive* drive, unsigned count) {
    uint64_t errors = 0;
    for (unsigned i = 0; i < count; ++i) {
        int head;
        while ((head = take_used(&drive->queue)) < 0) relax();
        if (drive->statuses[head / 3] != 0) ++errors;
    }
    return errors;
}

void guest_main(const uint8_t* boot_parameters) {
    read_command_line(boot_parameters);
    data = allocate(4096 * 2, 4096);
    const uint64_t features = start(&frozen, kFirstWindow);
    start(&other, kSecondWindow);
    print("ready\n");
    while (!(in8(0x3fd) & 1)) relax();
    (void)in8(0x3f8);
    for (unsigned i = 0; i < kWrites; ++i) send(&frozen, i, 1, i * 8, data, 4096);
    unsigned sent = kWrites;
    if (features & 1 << 13) send(&frozen, sent++, kDiscard, 0, &range, sizeof range);
    publish(&frozen.queue);
    uint64_t errors = 0;
    for (unsigned i = 0; i < kReads; ++i) {
        send(&other, 0, 0, i % 256 * 8, data + 4096, 4096);
        publish(&other.queue);
        errors += wait_for(&other, 1);
    }
    // Reads of the frozen drive are answered too, or wait; its writes must still be there.
    print_number("other drive done, errors", errors);
    print_number("frozen", take_used(&frozen.queue) < 0);
    print("\n");
    while (!(in8(0x3fd) & 1)) relax();
    (void)in8(0x3f8);
    print_number("thawed, errors", wait_for(&frozen, sent));
    print("\n");
    mmio_write(kFirstWindow + kStatus, 0);
    mmio_write(kSecondWindow + kStatus, 0);
    stop("done");
}
