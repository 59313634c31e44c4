// SPDX-License-Identifier: Apache-2.0
//
// What hostile guests share. Each attacks one device (its first drive, its network interface or its vsock device), then
// shows that the device works once it is reset and that a drive that was left alone never minded: "alive". It then
// waits for a byte on the serial port, so that the monitor can be looked at, and resets.
#pragma once

#include "bench/guest/virtio.h"

enum { kBlock = 2, kFirstWindow = 0xc0001000u, kSecondWindow = 0xc0002000u, kMemoryEnd = 64 << 20 };
enum {
    kQueueSelect = 0x30,
    kQueueSize = 0x38,
    kQueueReady = 0x44,
    kQueueNotify = 0x50,
    kStatus = 0x70,
    kDescriptors = 0x80,
    kDriverArea = 0x90,
    kDeviceArea = 0xa0
};
enum { kNeedsReset = 0x40 };

struct block_header {
    uint32_t type, reserved;
    uint64_t sector;
};

static inline uint8_t in8(uint16_t port) {
    uint8_t value;
    asm volatile("in %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void write64(uint64_t at, uint64_t value) {
    mmio_write(at, (uint32_t)value);
    mmio_write(at + 4, (uint32_t)(value >> 32));
}

/// Sets up a queue of a device that has just been reset: in new memory the first time, in the same later on, for there
/// may be thousands of resets.
static inline void renew_queue(struct queue* q, uint64_t window, uint32_t index, uint16_t size, uint64_t features) {
    if (!q->size) return set_up_queue(q, window, index, size, features);
    mmio_write(window + kQueueSelect, index);
    mmio_write(window + kQueueSize, q->size);
    write64(window + kDescriptors, (uint64_t)q->descriptors);
    write64(window + kDriverArea, (uint64_t)q->available);
    write64(window + kDeviceArea, (uint64_t)q->used);
    mmio_write(window + kQueueReady, 1);
    q->window = window;
    q->next_available = q->next_used = q->kicked_at = 0;
    q->event_idx = (features >> 29 & 1) != 0;
    for (int i = 0; i < 3 + q->size; ++i) q->available[i] = 0;
    q->used[0] = q->used[1] = 0;
}

/// A good request of a drive that has just been reset: reads its first sector.
static inline void check_drive(uint64_t window, const char* what) {
    static struct queue queue;
    static struct block_header header;
    static volatile uint8_t status;
    static uint8_t* data;
    if (!data) data = allocate(4096, 4096);
    const uint64_t features = start_device(window, 0);
    renew_queue(&queue, window, 0, 16, features);
    finish_device(window);
    header = (struct block_header){0, 0, 0};
    status = 0xff;
    queue.descriptors[0] = (struct descriptor){(uint64_t)&header, 16, kNext, 1};
    queue.descriptors[1] = (struct descriptor){(uint64_t)data, 512, kNext | kWrite, 2};
    queue.descriptors[2] = (struct descriptor){(uint64_t)&status, 1, kWrite, 0};
    make_available(&queue, 0);
    publish(&queue);
    while (take_used(&queue) < 0) {
        if (mmio_read(window + kStatus) & kNeedsReset) stop("error: a good request broke the drive");
        relax();
    }
    if (status != 0) {
        print(what);
        stop(": error: a good request failed");
    }
    mmio_write(window + kStatus, 0);
}

static inline void wait_for_byte(void) {
    print("alive\n");
    while (!(in8(0x3fd) & 1)) relax();
    stop("");
}

static inline void survived(void) {
    check_drive(kFirstWindow, "the drive that was attacked");
    check_drive(kSecondWindow, "the other drive");
    wait_for_byte();
}

/// The device has asked for a reset.
static inline int is_broken(uint64_t window) {
    return (mmio_read(window + kStatus) & kNeedsReset) != 0;
}

// ---- chance

static uint64_t seed;

static inline uint32_t random_below(uint32_t bound) {
    return (uint32_t)(random_next(&seed) >> 32) % bound;
}

/// Changes one of a descriptor's four fields. What a device writes goes to `room` or where there is nothing: half an
/// address, if it writes zeroes over the other, must not be this guest's own code or page table.
static inline void change_descriptor(struct descriptor* d, unsigned field, unsigned queue_size, const uint8_t* room) {
    switch (field) {
        case 0:
            d->address = random_below(2) ? random_next(&seed) | 0xf0000000 : (uint64_t)room + random_below(60000);
            break;
        case 1:
            d->length = random_below(2) ? (uint32_t)random_next(&seed) : random_below(8192);
            break;
        case 2:
            d->flags = (uint16_t)random_below(16);
            break;
        case 3:
            d->next = (uint16_t)random_below(queue_size + 2);
            break;
    }
}
