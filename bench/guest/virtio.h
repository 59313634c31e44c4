// SPDX-License-Identifier: Apache-2.0
//
// A polling driver of one split virtqueue behind virtio-mmio: the least a driver can do. Interrupts stay off.
#pragma once

#include "runtime.h"

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};
struct used_element {
    uint32_t id, length;
};
enum { kNext = 1, kWrite = 2, kIndirect = 4 };

struct queue {
    uint64_t window;
    uint32_t index;
    uint16_t size;
    struct descriptor* descriptors;
    volatile uint16_t* available;  // flags, index, ring
    volatile uint16_t* used;       // flags, index
    volatile struct used_element* used_ring;
    uint16_t next_available, kicked_at, next_used;
    int event_idx;
    uint64_t kicks;
};

/// The first virtio-mmio window with this device, or 0.
uint64_t find_device(uint32_t id);
/// Resets a device and negotiates `wanted` as far as it is offered, with VERSION_1. Returns what both have.
uint64_t start_device(uint64_t window, uint64_t wanted);
void set_up_queue(struct queue* queue, uint64_t window, uint32_t index, uint16_t most, uint64_t features);
void finish_device(uint64_t window);

static inline void make_available(struct queue* q, uint16_t head) {
    q->available[2 + (q->next_available++ & (q->size - 1))] = head;
}
/// Shows the device what was made available since the last call, and kicks it if it wants to be.
void publish(struct queue* q);
/// The head of the next used chain, or -1.
static inline int take_used(struct queue* q) {
    if (__atomic_load_n(q->used + 1, __ATOMIC_ACQUIRE) == q->next_used) return -1;
    return (int)q->used_ring[q->next_used++ & (q->size - 1)].id;
}
/// The same, and how many bytes the device wrote.
static inline int take_used_length(struct queue* q, uint32_t* length) {
    if (__atomic_load_n(q->used + 1, __ATOMIC_ACQUIRE) == q->next_used) return -1;
    *length = q->used_ring[q->next_used & (q->size - 1)].length;
    return take_used(q);
}
