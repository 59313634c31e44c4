// SPDX-License-Identifier: Apache-2.0
#include "virtio.h"

enum {
    kMagic = 0x00,
    kDeviceId = 0x08,
    kDeviceFeatures = 0x10,
    kDeviceFeaturesSelect = 0x14,
    kDriverFeatures = 0x20,
    kDriverFeaturesSelect = 0x24,
    kQueueSelect = 0x30,
    kQueueMax = 0x34,
    kQueueSize = 0x38,
    kQueueReady = 0x44,
    kQueueNotify = 0x50,
    kStatus = 0x70,
    kQueueDescriptors = 0x80,
    kQueueDriver = 0x90,
    kQueueDevice = 0xa0,
};
enum { kFirstWindow = 0xc0001000u, kWindowSize = 0x1000, kWindows = 19 };
#define EVENT_IDX (1ull << 29)
#define VERSION_1 (1ull << 32)

uint64_t find_device(uint32_t id) {
    for (uint64_t i = 0; i < kWindows; ++i) {
        const uint64_t window = kFirstWindow + i * kWindowSize;
        if (mmio_read(window + kMagic) == 0x74726976 && mmio_read(window + kDeviceId) == id) return window;
    }
    return 0;
}

uint64_t start_device(uint64_t window, uint64_t wanted) {
    mmio_write(window + kStatus, 0);
    mmio_write(window + kStatus, 1);
    mmio_write(window + kStatus, 3);
    uint64_t features = 0;
    for (uint32_t half = 0; half < 2; ++half) {
        mmio_write(window + kDeviceFeaturesSelect, half);
        const uint64_t offered = (uint64_t)mmio_read(window + kDeviceFeatures) << (32 * half);
        const uint64_t taken = offered & (wanted | VERSION_1);
        mmio_write(window + kDriverFeaturesSelect, half);
        mmio_write(window + kDriverFeatures, (uint32_t)(taken >> (32 * half)));
        features |= taken;
    }
    mmio_write(window + kStatus, 11);
    if (mmio_read(window + kStatus) != 11) stop("error: the device does not take the features");
    return features;
}

static void write_address(uint64_t at, const volatile void* address) {
    mmio_write(at, (uint32_t)(uint64_t)address);
    mmio_write(at + 4, (uint32_t)((uint64_t)address >> 32));
}

void set_up_queue(struct queue* q, uint64_t window, uint32_t index, uint16_t most, uint64_t features) {
    mmio_write(window + kQueueSelect, index);
    const uint32_t max = mmio_read(window + kQueueMax);
    q->window = window;
    q->index = index;
    q->size = (uint16_t)(max < most ? max : most);
    q->descriptors = allocate(16ull * q->size, 4096);
    q->available = allocate(6 + 2ull * q->size, 4096);
    q->used = allocate(6 + 8ull * q->size, 4096);
    q->used_ring = (volatile struct used_element*)(q->used + 2);
    q->event_idx = (features & EVENT_IDX) != 0;
    if (q->event_idx)
        q->available[2 + q->size] = 0x8000;  // an interrupt a long way off; publish() keeps it there
    else
        q->available[0] = 1;
    mmio_write(window + kQueueSize, q->size);
    write_address(window + kQueueDescriptors, q->descriptors);
    write_address(window + kQueueDriver, q->available);
    write_address(window + kQueueDevice, q->used);
    mmio_write(window + kQueueReady, 1);
}

void finish_device(uint64_t window) {
    mmio_write(window + kStatus, 15);
}

void publish(struct queue* q) {
    const uint16_t before = q->available[1];
    if (before == q->next_available) return;
    if (q->event_idx) q->available[2 + q->size] = (uint16_t)(q->next_used + 0x8000);
    __atomic_store_n(q->available + 1, q->next_available, __ATOMIC_RELEASE);
    fence();
    int wanted;
    if (q->event_idx) {
        const uint16_t event = ((volatile uint16_t*)(q->used_ring + q->size))[0];
        wanted = (uint16_t)(q->next_available - event - 1) < (uint16_t)(q->next_available - before);
    } else {
        wanted = !(q->used[0] & 1);
    }
    if (!wanted) return;
    ++q->kicks;
    mmio_write(q->window + kQueueNotify, q->index);
}
