// SPDX-License-Identifier: Apache-2.0
//
// Changes rings, descriptors and request headers while the device reads them, kicks it without end, acknowledges
// interrupts at random, and resets it in the middle of its work. Options: seed, rounds.
#include "tests/guest/hostile/hostile.h"

enum { kSize = 64, kChanges = 300 };

static struct queue q;
static struct block_header* headers;
static uint8_t* data;

static void good_chains(void) {
    for (unsigned i = 0; i + 2 < kSize; i += 3) {
        headers[i] = (struct block_header){random_below(2), 0, random_below(100)};
        q.descriptors[i] = (struct descriptor){(uint64_t)(headers + i), 16, kNext, (uint16_t)(i + 1)};
        q.descriptors[i + 1] = (struct descriptor){
            (uint64_t)data, 4096, (uint16_t)(kNext | (headers[i].type ? 0 : kWrite)), (uint16_t)(i + 2)};
        q.descriptors[i + 2] = (struct descriptor){(uint64_t)(data + 8192 + i), 1, kWrite, 0};
    }
}

static void change(void) {
    const unsigned i = random_below(kSize);
    struct descriptor* d = q.descriptors + i;
    const unsigned what = random_below(8);
    switch (what) {
        case 4:
            headers[i].type = random_below(16);
            break;
        case 5:
            headers[i].sector = random_below(3) ? random_below(10000) : random_next(&seed);
            break;
        case 6:
            q.available[2 + i] = (uint16_t)(random_below(kSize / 3) * 3);
            break;
        case 7:
            mmio_write(kFirstWindow + 0x64, mmio_read(kFirstWindow + 0x60));
            break;
        default:
            change_descriptor(d, what, kSize, data);
            break;
    }
}

void guest_main(const uint8_t* boot_parameters) {
    read_command_line(boot_parameters);
    seed = option("seed", 1);
    headers = allocate(sizeof *headers * kSize, 4096);
    data = allocate(16384, 4096);
    for (uint64_t round = option("rounds", 100); round > 0; --round) {
        static struct queue rings;
        const uint64_t features = start_device(kFirstWindow, random_below(2) ? 1ull << 29 : 0);
        renew_queue(&rings, kFirstWindow, 0, kSize, features);
        q = rings;
        finish_device(kFirstWindow);
        good_chains();
        for (unsigned i = 0; i < kSize; ++i) q.available[2 + i] = (uint16_t)(random_below(kSize / 3) * 3);
        for (unsigned i = 0; i < kChanges; ++i) {
            const uint16_t used = q.used[1];
            q.available[1] = (uint16_t)(used + random_below(kSize));
            mmio_write(kFirstWindow + kQueueNotify, random_below(20) ? 0 : random_below(300));
            for (unsigned j = random_below(8); j > 0; --j) change();
            if (random_below(4) == 0) good_chains();
            if (is_broken(kFirstWindow)) break;
        }
    }
    survived();
}
