// SPDX-License-Identifier: Apache-2.0
//
// Attacks its network interface: headers wrong in every field, frames of every wrong size, chains that no driver makes
// in both queues, buffers that change while they are read, resets in the middle of traffic. Behind the tap somebody
// sends every frame back. Options: seed, rounds.
#include "tests/guest/hostile/chains.h"

enum { kNet = 1, kHeader = 12, kEthernet = 14, kBuffers = 64, kRoom = 2048, kLargest = 70000, kChanges = 300 };
enum { kRx = 0, kTx = 1 };
#define ALL_FEATURES (~(1ull << 29))

static uint64_t window, features;
static struct queue rx, tx;
static uint8_t *frame, *room;

static void restart(uint64_t wanted) {
    features = start_device(window, wanted);
    renew_queue(&rx, window, kRx, kSize, features);
    renew_queue(&tx, window, kTx, kSize, features);
    finish_device(window);
}

static void make_frame(uint32_t tag) {
    memset(frame, 0, kHeader + 60);
    for (int i = 0; i < 6; ++i) frame[kHeader + i] = 2, frame[kHeader + 6 + i] = 6;
    frame[kHeader + 12] = 0x88, frame[kHeader + 13] = 0xb5;  // what the other side sends back
    *(uint32_t*)(frame + kHeader + kEthernet) = tag;
}

static void send(uint64_t size) {
    tx.descriptors[0] = (struct descriptor){(uint64_t)frame, (uint32_t)size, 0, 0};
    make_available(&tx, 0);
    publish(&tx);
}

static void post_all(void) {
    for (uint16_t i = 0; i < kBuffers; ++i) {
        rx.descriptors[i] = (struct descriptor){(uint64_t)(room + i * kRoom), kRoom, kWrite, 0};
        make_available(&rx, i);
    }
    publish(&rx);
}

static void wait_sent(const char* what) {
    while (take_used(&tx) < 0) {
        if (is_broken(window)) {
            print(what);
            stop(": error: the interface broke");
        }
        relax();
    }
}

// The interface works: a frame comes back.
static void check_interface(const char* what) {
    static uint32_t tag = 0x5eed0000;
    restart(ALL_FEATURES);
    post_all();
    ++tag;
    for (int tries = 0; tries < 50; ++tries) {
        make_frame(tag);
        send(kHeader + 60);
        wait_sent(what);
        for (const uint64_t end = tsc() + 100000000; tsc() < end;) {
            const int head = take_used(&rx);
            if (head < 0) {
                relax();
                continue;
            }
            const int found = *(volatile uint32_t*)(room + head * kRoom + kHeader + kEthernet) == tag;
            make_available(&rx, (uint16_t)head);
            publish(&rx);
            if (found) return;
        }
    }
    print(what);
    stop(": error: no frame comes back");
}

// Every field with every value that might matter, in frames of every size.
static void wrong_headers(void) {
    static const uint16_t values[] = {0, 1, 2, 5, 13, 60, 61, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff};
    static const uint8_t fields[] = {0, 1, 2, 4, 6, 8, 10};
    static const uint32_t sizes[] = {0, 1, 11, 12, 13, 25, 26, 72, 1526, 65562, 65563, kLargest};
    static const uint8_t segment[12] = {1, 1, 54, 0, 200, 5, 34, 0, 16, 0, 0, 0};
    for (unsigned offload = 0; offload < 2; ++offload) {
        restart(offload ? ALL_FEATURES : 0);
        for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; ++s)
            for (unsigned f = 0; f < sizeof fields; ++f)
                for (unsigned v = 0; v < sizeof values / sizeof *values; ++v) {
                    make_frame(0);
                    if (v & 1) copy(frame, segment, sizeof segment);
                    if (fields[f] < 2)
                        frame[fields[f]] = (uint8_t)values[v];
                    else
                        *(uint16_t*)(frame + fields[f]) = values[v];
                    send(sizes[s]);
                    wait_sent("wrong headers");
                }
    }
    check_interface("after wrong headers");
}

static void bad_chains(void) {
    for (unsigned i = 0; i < 2 * kChainAttacks; ++i) {
        const unsigned target = i & 1;
        restart(1ull << kIndirectBit | 1 << 15);
        q = target == kTx ? tx : rx;
        make_available(&q, 0);
        chain_attacks[i / 2]();
        q.available[1] = q.next_available;
        fence();
        mmio_write(window + kQueueNotify, target);
        // A receive buffer is looked at when a frame comes, and a chain without room may be kept until more comes.
        for (uint64_t end = tsc() + 20000000; q.used[1] == 0 && !is_broken(window) && (target == kTx || tsc() < end);) {
            if (target == kRx && tx.available[1] == tx.used[1]) {
                make_frame(1);
                send(kHeader + 60);
            }
            relax();
        }
        check_interface("after a bad chain");
    }
}

// Receive buffers that are too small, too many, or in the middle of each other, while frames come.
static void bad_buffers(void) {
    static const uint32_t lengths[] = {0, 1, 11, 12, 13, 26, 71, 4096};
    for (unsigned l = 0; l < sizeof lengths / sizeof *lengths; ++l)
        for (unsigned merge = 0; merge < 2; ++merge) {
            restart(merge << 15);
            for (uint16_t i = 0; i < kSize; ++i) {
                rx.descriptors[i] = (struct descriptor){(uint64_t)room + i, lengths[l], kWrite, 0};
                make_available(&rx, i);
            }
            publish(&rx);
            make_frame(2);
            for (unsigned n = 0; n < 20; ++n) {
                send(kHeader + 60);
                wait_sent("bad buffers");
            }
        }
    check_interface("after bad buffers");
}

static void change(void) {
    struct queue* const victim = random_below(2) ? &tx : &rx;
    const unsigned i = random_below(kSize);
    struct descriptor* const d = victim->descriptors + i;
    const unsigned what = random_below(8);
    switch (what) {
        case 4:
            frame[random_below(kHeader)] = (uint8_t)random_next(&seed);
            break;
        case 5:
            victim->available[2 + i] = (uint16_t)random_below(kSize + 1);
            break;
        case 6:
            mmio_write(window + 0x64, mmio_read(window + 0x60));
            break;
        case 7:
            frame[kHeader + random_below(60)] = (uint8_t)random_next(&seed);
            break;
        default:
            change_descriptor(d, what, kSize, room);
            break;
    }
}

// A length that is changed between two looks must stay in this guest's harmless memory: it may be up to 4 GiB, but then
// the descriptor is refused. So addresses lie before 48 MiB of nothing.
static void race(uint64_t rounds) {
    for (; rounds > 0; --rounds) {
        restart(random_below(2) ? ~0ull : 0);
        for (uint16_t i = 0; i < kSize; ++i) {
            tx.descriptors[i] = (struct descriptor){(uint64_t)frame, kHeader + 60, 0, 0};
            rx.descriptors[i] = (struct descriptor){(uint64_t)(room + i % kBuffers * kRoom), kRoom, kWrite, 0};
            tx.available[2 + i] = rx.available[2 + i] = i;
        }
        make_frame(3);
        for (unsigned i = 0; i < kChanges; ++i) {
            rx.available[1] = (uint16_t)(rx.used[1] + random_below(kSize));
            tx.available[1] = (uint16_t)(tx.used[1] + random_below(kSize));
            mmio_write(window + kQueueNotify, random_below(20) ? random_below(2) : random_below(300));
            for (unsigned j = random_below(8); j > 0; --j) change();
            if (random_below(4) == 0) make_frame(3);
            if (is_broken(window)) break;
        }
    }
    check_interface("after changes");
}

void guest_main(const uint8_t* boot_parameters) {
    read_command_line(boot_parameters);
    seed = option("seed", 1);
    window = find_device(kNet);
    const uint64_t drive = find_device(kBlock);
    if (!window || !drive) stop("error: no interface, or no drive");
    header = allocate(4096, 4096);
    data = allocate(8192, 4096);
    frame = allocate(kLargest, 4096);
    room = allocate(kBuffers * kRoom + (1 << 20), 4096);
    check_interface("at first");
    wrong_headers();
    bad_chains();
    bad_buffers();
    race(option("rounds", 30));
    check_drive(drive, "the drive");
    wait_for_byte();
}
