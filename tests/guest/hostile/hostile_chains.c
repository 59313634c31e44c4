// SPDX-License-Identifier: Apache-2.0
//
// Chains that no driver makes. Each must come back, or the drive must ask for a reset; within a bounded time either
// way.
#include "tests/guest/hostile/chains.h"

static void no_header(void) {
    set(0, (uint64_t)data, 1, kWrite, 0);
}
static void no_status(void) {
    set(0, (uint64_t)header, 16, 0, 0);
}
static void unknown_type(void) {
    header->type = 0xdeadbeef;
    set(0, (uint64_t)header, 16, kNext, 1);
    set(1, (uint64_t)data, 1, kWrite, 0);
}
static void sector_wraps(void) {
    header->sector = 0xffffffffffffffff;
    set(0, (uint64_t)header, 16, kNext, 1);
    set(1, (uint64_t)data, 1024, kNext | kWrite, 2);
    set(2, (uint64_t)data, 1, kWrite, 0);
}
static void (*const request_attacks[])(void) = {no_header, no_status, unknown_type, sector_wraps};
enum { kRequestAttacks = sizeof request_attacks / sizeof *request_attacks };

void guest_main(const uint8_t* boot_parameters) {
    read_command_line(boot_parameters);
    header = allocate(4096, 4096);
    data = allocate(8192, 4096);
    for (unsigned i = 0; i < kChainAttacks + kRequestAttacks; ++i) {
        const uint64_t features = start_device(kFirstWindow, 1ull << kIndirectBit);
        set_up_queue(&q, kFirstWindow, 0, kSize, features);
        q.next_available = q.next_used = 0;
        finish_device(kFirstWindow);
        *header = (struct block_header){0, 0, 0};
        make_available(&q, 0);
        (i < kChainAttacks ? chain_attacks[i] : request_attacks[i - kChainAttacks])();
        q.available[1] = q.next_available;
        fence();
        mmio_write(kFirstWindow + kQueueNotify, 0);
        while (q.used[1] == 0 && !is_broken(kFirstWindow)) relax();
        check_drive(kFirstWindow, "after a bad chain");
    }
    survived();
}
