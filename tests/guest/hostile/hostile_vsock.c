// SPDX-License-Identifier: Apache-2.0
//
// Attacks its vsock device: headers wrong in every field, for connections that are open and for none, floods of
// requests and of data that nobody reads, chains that no driver makes, buffers that change while they are read, resets
// in the middle of traffic. Port 5000 of the host sends everything back; port 5001 takes connections and never reads.
// Options: seed, rounds.
#include "tests/guest/hostile/chains.h"

enum { kVsock = 19, kHostCid = 2, kEchoPort = 5000, kDeafPort = 5001, kRoom = 8192, kBuffers = 64, kChanges = 300 };
enum { kRx = 0, kTx = 1, kEvents = 2 };
enum { kRequest = 1, kResponse, kReset, kShutdown, kData };

struct packet {
    uint64_t source_cid, destination_cid;
    uint32_t source_port, destination_port, length;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

static uint64_t window, cid;
static uint32_t port = 1024;
static struct queue rx, tx, events;
static struct packet* packet;  // with up to 64 KiB of data behind it
static uint8_t* room;

static void post_all(void) {
    for (uint16_t i = 0; i < kBuffers; ++i) {
        rx.descriptors[i] = (struct descriptor){(uint64_t)(room + i * kRoom), kRoom, kWrite, 0};
        make_available(&rx, i);
    }
    publish(&rx);
}

static void restart(uint64_t wanted) {
    const uint64_t features = start_device(window, wanted);
    renew_queue(&rx, window, kRx, kSize, features);
    renew_queue(&tx, window, kTx, kSize, features);
    renew_queue(&events, window, kEvents, 16, features);
    finish_device(window);
}

// Packets from the device go back into its queue, until one of this operation for this port comes. 0: none came in
// time.
static const struct packet* take(uint32_t for_port, uint16_t op, uint64_t cycles) {
    static struct packet found;
    for (const uint64_t end = tsc() + cycles; tsc() < end;) {
        const int head = take_used(&rx);
        if (head < 0) {
            relax();
            continue;
        }
        found = *(struct packet*)(room + (unsigned)head % kBuffers * kRoom);
        make_available(&rx, (uint16_t)head);
        publish(&rx);
        if (found.destination_port == for_port && found.op == op) return &found;
    }
    return 0;
}

static void send_bytes(uint64_t size, const char* what) {
    tx.descriptors[0] = (struct descriptor){(uint64_t)packet, (uint32_t)size, 0, 0};
    make_available(&tx, 0);
    publish(&tx);
    // What comes meanwhile is left alone at first: it may be the answer.
    for (const uint64_t patience = tsc() + 20000000; take_used(&tx) < 0;) {
        if (is_broken(window)) {
            print(what);
            stop(": error: the device broke");
        }
        if (tsc() < patience) continue;
        for (int head; (head = take_used(&rx)) >= 0;) make_available(&rx, (uint16_t)head);
        publish(&rx);
    }
}

static void send(uint16_t op, uint32_t host_port, uint32_t length, const char* what) {
    *packet = (struct packet){cid, kHostCid, port, host_port, length, 1, op, 3, 65536, 0};
    send_bytes(sizeof *packet + length, what);
}

// The device works: what goes to the echo's port comes back.
static void check_device(const char* what) {
    restart(0);
    post_all();
    for (int tries = 0; tries < 200; ++tries) {
        ++port;
        send(kRequest, kEchoPort, 0, what);
        if (!take(port, kResponse, 2000000000)) continue;  // its listener may be full of what the attack left
        *(uint32_t*)(packet + 1) = port;
        send(kData, kEchoPort, 4, what);
        const struct packet* const back = take(port, kData, 4000000000);
        if (!back || back->length != 4) continue;
        return send(kReset, kEchoPort, 0, what);
    }
    print(what);
    stop(": error: no data comes back");
}

static void wrong_headers(void) {
    static const uint64_t values[] = {0,    1,      2,       3,          4,          8,          0x7f,
                                      0xff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff, 0xffffffffffffffff};
    static const struct {
        uint8_t offset, size;
    } fields[] = {{0, 8}, {8, 8}, {16, 4}, {20, 4}, {24, 4}, {28, 2}, {30, 2}, {32, 4}, {36, 4}, {40, 4}};
    for (unsigned op = 0; op < 9; ++op)
        for (unsigned f = 0; f < sizeof fields / sizeof *fields; ++f) {
            restart(0);
            post_all();
            for (unsigned v = 0; v < sizeof values / sizeof *values; ++v) {
                ++port;
                if (v & 1) {  // for a connection that there is
                    send(kRequest, kEchoPort, 0, "wrong headers");
                    take(port, kResponse, 20000000);
                }
                *packet = (struct packet){cid, kHostCid,     port, kEchoPort, op == kData ? 100 : 0,
                                          1,   (uint16_t)op, 0,    65536,     0};
                copy((uint8_t*)packet + fields[f].offset, values + v, fields[f].size);
                send_bytes(sizeof *packet + (op == kData ? 100 : 0), "wrong headers");
            }
        }
    for (uint64_t size = 0; size <= sizeof *packet; ++size) send_bytes(size, "short headers");
    check_device("after wrong headers");
}

// More connections than there may be, and more data than anybody reads.
static void floods(void) {
    restart(0);
    post_all();
    for (unsigned n = 0; n < 3000; ++n) {
        ++port;
        send(kRequest, n % 3 ? kDeafPort : kEchoPort + 7, 0, "a flood of requests");
    }
    for (unsigned n = 0; n < 2000; ++n) {
        port -= n % 7;
        send(kData, kDeafPort, 60000, "a flood of data");
        port += n % 7;
    }
    check_device("after floods");
}

static void bad_chains(void) {
    for (unsigned i = 0; i < 2 * kChainAttacks; ++i) {
        const unsigned target = i & 1;
        restart(1ull << kIndirectBit);
        q = target == kTx ? tx : rx;
        make_available(&q, 0);
        chain_attacks[i / 2]();
        q.available[1] = q.next_available;
        fence();
        mmio_write(window + kQueueNotify, target);
        // A receive buffer is looked at when there is something for it: an answer to a packet of no connection.
        for (uint64_t end = tsc() + 20000000; q.used[1] == 0 && !is_broken(window) && (target == kTx || tsc() < end);) {
            if (target == kRx && tx.available[1] == tx.used[1]) {
                *packet = (struct packet){cid, kHostCid, 7, 7, 0, 1, kData, 0, 0, 0};
                tx.descriptors[0] = (struct descriptor){(uint64_t)packet, sizeof *packet, 0, 0};
                make_available(&tx, 0);
                publish(&tx);
            }
            relax();
        }
        check_device("after a bad chain");
    }
}

static void bad_buffers(void) {
    static const uint32_t lengths[] = {0, 1, 43, 44, 45, 100};
    for (unsigned l = 0; l < sizeof lengths / sizeof *lengths; ++l) {
        restart(0);
        for (uint16_t i = 0; i < kSize; ++i) {
            rx.descriptors[i] = (struct descriptor){(uint64_t)room + i, lengths[l], kWrite, 0};
            make_available(&rx, i);
        }
        publish(&rx);
        for (unsigned n = 0; n < 100; ++n) {
            *packet = (struct packet){cid, kHostCid, ++port, kEchoPort, 0, 1, n % 2 ? kData : kRequest, 0, 65536, 0};
            tx.descriptors[0] = (struct descriptor){(uint64_t)packet, sizeof *packet, 0, 0};
            make_available(&tx, 0);
            publish(&tx);
            while (take_used(&tx) < 0 && !is_broken(window)) relax();
        }
    }
    check_device("after bad buffers");
}

static void change(void) {
    struct queue* const victim = random_below(2) ? &tx : &rx;
    const unsigned i = random_below(kSize);
    struct descriptor* const d = victim->descriptors + i;
    const unsigned what = random_below(7);
    switch (what) {
        case 4:
            ((uint8_t*)packet)[random_below(sizeof *packet)] = (uint8_t)random_next(&seed);
            break;
        case 5:
            victim->available[2 + i] = (uint16_t)random_below(kSize + 1);
            break;
        case 6:
            packet->op = (uint16_t)random_below(9);
            break;
        default:
            change_descriptor(d, what, kSize, room);
            break;
    }
}

static void race(uint64_t rounds) {
    for (; rounds > 0; --rounds) {
        restart(random_below(2) ? 1ull << 29 : 0);
        for (uint16_t i = 0; i < kSize; ++i) {
            tx.descriptors[i] = (struct descriptor){(uint64_t)packet, sizeof *packet + 200, 0, 0};
            rx.descriptors[i] = (struct descriptor){(uint64_t)(room + i % kBuffers * kRoom), kRoom, kWrite, 0};
            tx.available[2 + i] = rx.available[2 + i] = i;
        }
        for (unsigned i = 0; i < kChanges; ++i) {
            if (random_below(4) == 0)
                *packet = (struct packet){cid,
                                          kHostCid,
                                          port + random_below(3),
                                          kEchoPort,
                                          200,
                                          1,
                                          (uint16_t)(random_below(2) ? kData : kRequest),
                                          0,
                                          65536,
                                          0};
            rx.available[1] = (uint16_t)(rx.used[1] + random_below(kSize));
            tx.available[1] = (uint16_t)(tx.used[1] + random_below(kSize));
            mmio_write(window + kQueueNotify, random_below(20) ? random_below(2) : random_below(300));
            for (unsigned j = random_below(8); j > 0; --j) change();
            if (is_broken(window)) break;
        }
    }
    check_device("after changes");
}

void guest_main(const uint8_t* boot_parameters) {
    read_command_line(boot_parameters);
    seed = option("seed", 1);
    window = find_device(kVsock);
    const uint64_t drive = find_device(kBlock);
    if (!window || !drive) stop("error: no vsock device, or no drive");
    cid = mmio_read(window + 0x100) | (uint64_t)mmio_read(window + 0x104) << 32;
    header = allocate(4096, 4096);
    data = allocate(8192, 4096);
    packet = allocate(sizeof *packet + 65536, 4096);
    room = allocate(kBuffers * kRoom + (1 << 20), 4096);
    check_device("at first");
    wrong_headers();
    floods();
    bad_chains();
    bad_buffers();
    race(option("rounds", 30));
    check_drive(drive, "the drive");
    wait_for_byte();
}
