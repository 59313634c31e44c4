// SPDX-License-Identifier: Apache-2.0
//
// Chains that no driver makes, for a queue of any device: each is built in `q`, whose first available entry is its
// head.
#pragma once

#include "tests/guest/hostile/hostile.h"

enum { kSize = 256, kIndirectBit = 28, kTable = 0x3000000 };  // the last 16 MiB hold indirect tables

static struct queue q;
static struct block_header* header;  // any 16 bytes
static uint8_t* data;

static void set(unsigned i, uint64_t address, uint32_t length, uint16_t flags, uint16_t next) {
    q.descriptors[i] = (struct descriptor){address, length, flags, next};
}

static struct descriptor* indirect(uint32_t entries) {
    set(0, kTable, entries * 16, kIndirect, 0);
    return (struct descriptor*)kTable;
}

static void loop_of_one(void) {
    set(0, (uint64_t)data, 16, kNext, 0);
}
static void loop_of_two(void) {
    set(0, (uint64_t)header, 16, kNext, 1);
    set(1, (uint64_t)data, 512, kNext, 0);
}
static void next_beyond(void) {
    set(0, (uint64_t)header, 16, kNext, kSize);
}
static void far_beyond(void) {
    set(0, (uint64_t)header, 16, kNext, 65535);
}
static void unknown_flag(void) {
    set(0, (uint64_t)header, 16, 8, 0);
}
static void all_flags(void) {
    set(0, (uint64_t)header, 16, 65535, 0);
}
static void zero_lengths(void) {
    for (unsigned i = 0; i < kSize; ++i) set(i, (uint64_t)data, 0, i + 1 < kSize ? kNext : 0, (uint16_t)(i + 1));
}
static void giant_length(void) {
    set(0, (uint64_t)header, 16, kNext, 1);
    set(1, (uint64_t)data, 0xffffffff, kNext | kWrite, 2);
    set(2, (uint64_t)data, 1, kWrite, 0);
}
static void wraps(void) {
    set(0, (uint64_t)header, 16, kNext, 1);
    set(1, 0xfffffffffffffff0, 0x1000, kNext | kWrite, 2);
    set(2, (uint64_t)data, 1, kWrite, 0);
}
static void mmio_buffer(void) {
    set(0, (uint64_t)header, 16, kNext, 1);
    set(1, kFirstWindow, 512, kNext | kWrite, 2);
    set(2, (uint64_t)data, 1, kWrite, 0);
}
static void end_of_memory(void) {
    set(0, (uint64_t)header, 16, kNext, 1);
    set(1, kMemoryEnd - 256, 512, kNext | kWrite, 2);
    set(2, (uint64_t)data, 1, kWrite, 0);
}
static void over_its_own_rings(void) {
    set(0, (uint64_t)header, 16, kNext, 1);
    set(1, (uint64_t)q.descriptors, 4096, kNext | kWrite, 2);
    set(2, (uint64_t)q.used, 1, kWrite, 0);
}
static void over_the_available_ring(void) {
    set(0, (uint64_t)header, 16, kNext, 1);
    set(1, (uint64_t)q.available, 512, kNext | kWrite, 2);
    set(2, (uint64_t)data, 1, kWrite, 0);
}
static void readable_after_writable(void) {
    set(0, (uint64_t)header, 16, kNext | kWrite, 1);
    set(1, (uint64_t)data, 512, 0, 0);
}
static void sum_of_4_gib(void) {
    struct descriptor* t = indirect(200);
    for (unsigned i = 0; i < 200; ++i) t[i] = (struct descriptor){0x1000000, 0x2000000, kNext, (uint16_t)(i + 1)};
}
static void table_of_65536(void) {
    struct descriptor* t = indirect(65536);
    for (unsigned i = 0; i < 65536; ++i) t[i] = (struct descriptor){(uint64_t)data, 1, kNext, (uint16_t)(i + 1)};
}
static void table_in_table(void) {
    *indirect(1) = (struct descriptor){kTable, 16, kIndirect, 0};
}
static void table_is_the_ring(void) {
    set(0, (uint64_t)q.descriptors, 16, kIndirect, 0);
}
static void table_of_odd_length(void) {
    set(0, kTable, 17, kIndirect, 0);
}
static void table_of_nothing(void) {
    set(0, kTable, 0, kIndirect, 0);
}
static void table_of_4_gib(void) {
    set(0, kTable, 0xfffffff0, kIndirect, 0);
}
static void table_and_next(void) {
    set(0, kTable, 16, kIndirect | kNext, 1);
}
static void head_beyond(void) {
    q.available[2] = kSize;
}
static void index_far_ahead(void) {
    q.next_available = 40000;
}

static void (*const chain_attacks[])(void) = {
    loop_of_one,
    loop_of_two,
    next_beyond,
    far_beyond,
    unknown_flag,
    all_flags,
    zero_lengths,
    giant_length,
    wraps,
    mmio_buffer,
    end_of_memory,
    over_its_own_rings,
    over_the_available_ring,
    readable_after_writable,
    sum_of_4_gib,
    table_of_65536,
    table_in_table,
    table_is_the_ring,
    table_of_odd_length,
    table_of_nothing,
    table_of_4_gib,
    table_and_next,
    head_beyond,
    index_far_ahead,
};
enum { kChainAttacks = sizeof chain_attacks / sizeof *chain_attacks };
