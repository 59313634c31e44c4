// SPDX-License-Identifier: Apache-2.0
//
// Fills its first drive's queue with the longest reads that there can be, all segments on the same memory, and keeps it
// full. Then asks for more than that, which must be refused. Options: rounds, segment (bytes).
#include "tests/guest/hostile/hostile.h"

enum { kChains = 64, kSegments = 126, kSizeMax = 128 << 10 };

static struct block_header header;
static uint8_t* data;
static volatile uint8_t* statuses;
static struct descriptor* tables;
static struct queue queue;

static void fill(unsigned chain, unsigned segments, uint32_t bytes) {
    struct descriptor* table = tables + chain * (kSegments + 3);
    table[0] = (struct descriptor){(uint64_t)&header, 16, kNext, 1};
    for (unsigned i = 1; i <= segments; ++i)
        table[i] = (struct descriptor){(uint64_t)data, bytes, kNext | kWrite, (uint16_t)(i + 1)};
    table[segments + 1] = (struct descriptor){(uint64_t)(statuses + chain), 1, kWrite, 0};
    queue.descriptors[chain] = (struct descriptor){(uint64_t)table, (segments + 2) * 16, kIndirect, 0};
    statuses[chain] = 0xff;
    make_available(&queue, (uint16_t)chain);
}

static unsigned wait_for_one(void) {
    int chain;
    while ((chain = take_used(&queue)) < 0) {
        if (is_broken(kFirstWindow)) stop("error: long requests broke the drive");
        relax();
    }
    return (unsigned)chain;
}

void guest_main(const uint8_t* boot_parameters) {
    read_command_line(boot_parameters);
    const uint32_t bytes = (uint32_t)option("segment", kSizeMax);
    data = allocate(bytes, 4096);
    statuses = allocate(kChains, 64);
    tables = allocate(sizeof *tables * kChains * (kSegments + 3), 4096);
    const uint64_t features = start_device(kFirstWindow, 1ull << 28 | 1ull << 29 | 1 << 1);
    renew_queue(&queue, kFirstWindow, 0, 256, features);
    finish_device(kFirstWindow);
    print("begun\n");
    uint64_t good = 0, refused = 0;
    for (unsigned chain = 0; chain < kChains; ++chain) fill(chain, kSegments, bytes);
    publish(&queue);
    for (uint64_t left = option("rounds", 4) * kChains; left > 0; --left) {
        const unsigned chain = wait_for_one();
        ++*(statuses[chain] == 0 ? &good : &refused);
        fill(chain, kSegments, bytes);
        publish(&queue);
    }
    for (unsigned i = 0; i < kChains; ++i) (void)wait_for_one();
    print_number("good", good);
    print_number("refused", refused);
    print("\n");
    mmio_write(kFirstWindow + kStatus, 0);
    survived();
}
