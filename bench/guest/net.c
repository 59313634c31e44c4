// SPDX-License-Identifier: Apache-2.0
//
// The network bench guest. On its command line:
//   work=tx|rx|rtt|verify  size=BYTES  gso=BYTES  ms=MILLISECONDS  count=N  rounds=N  buffer=BYTES  tsc_khz=KHZ  seed=N
// `size` is that of a frame with its Ethernet header; with `gso`, frames are TCP segments to be cut into so many bytes.
// It drives both virtqueues by polling and prints one line:
//   result frames=N us=N errors=N kicks=N
// tx sends for `ms`. rx asks for `count` frames by a frame of its own, gives them 150 ms to be there, and takes the
// time until it has them, `rounds` times. rtt sends a frame and waits for its echo, `count` times. verify does so with
// frames of all sizes up to `size` and compares what comes back with what it sent.
#include "virtio.h"

enum { kNet = 1, kHeader = 12, kDepth = 256, kEthernet = 14, kLargest = 65562 };
enum { kNeedsChecksum = 1, kGsoTcp4 = 1, kExperimental = 0xb588 };
#define FEATURES_SEND (1ull << 0 | 1ull << 11 | 1ull << 29)                 // CSUM, HOST_TSO4, EVENT_IDX
#define FEATURES_RECEIVE (1ull << 1 | 1ull << 7 | 1ull << 15 | 1ull << 29)  // GUEST_CSUM, GUEST_TSO4, MRG_RXBUF

struct header {
    uint8_t flags, gso_type;
    uint16_t header_length, gso_size, checksum_start, checksum_offset, buffers;
};

static struct queue receive, send;
static uint8_t *sent[kDepth], *received[kDepth];
static uint64_t size, gso, buffer, khz, errors;

static void store16(uint8_t* at, uint64_t value) {
    at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value;
}

// Ethernet, and with gso IPv4 and TCP behind it: enough for the host to cut it.
static void make_frame(uint8_t* at, uint64_t length, uint64_t segment) {
    struct header* header = (struct header*)at;
    uint8_t* frame = at + kHeader;
    memset(at, 0, kHeader + kEthernet);
    for (int i = 0; i < 6; ++i) frame[i] = 2, frame[6 + i] = 6;  // a stranger's address, so the host drops it soon
    *(uint16_t*)(frame + 12) = kExperimental;
    if (!segment) return;
    *header = (struct header){kNeedsChecksum, kGsoTcp4, 54, (uint16_t)segment, 34, 16, 0};
    store16(frame + 12, 0x0800);
    frame[14] = 0x45;
    store16(frame + 16, length - kEthernet);
    frame[22] = 64, frame[23] = 6;
    frame[26] = 10, frame[29] = 1, frame[30] = 10, frame[33] = 2;
    frame[34 + 12] = 0x50, frame[34 + 13] = 0x10;
}

static void send_frame(uint16_t i, uint64_t length) {
    send.descriptors[i] = (struct descriptor){(uint64_t)sent[i], (uint32_t)(kHeader + length), 0, 0};
    make_available(&send, i);
}

static uint64_t run_send(uint64_t deadline) {
    uint64_t done = 0, under_way = 0;
    for (; under_way < send.size; ++under_way) send_frame((uint16_t)under_way, size);
    publish(&send);
    while (under_way > 0) {
        int head;
        const int more = tsc() < deadline;
        while ((head = take_used(&send)) >= 0) {
            ++done;
            if (more)
                make_available(&send, (uint16_t)head);
            else
                --under_way;
        }
        publish(&send);
    }
    return done;
}

// Gives a buffer to the device.
static void post(uint16_t i) {
    receive.descriptors[i] = (struct descriptor){(uint64_t)received[i], (uint32_t)buffer, kWrite, 0};
    make_available(&receive, i);
}
static void post_all(void) {
    for (uint16_t i = 0; i < receive.size; ++i) post(i);
    publish(&receive);
}

// Takes a frame if one is there: its length without the header, or 0. Copies it to `to`, if given.
static uint64_t take_frame(uint8_t* to) {
    uint32_t length;
    int head = take_used_length(&receive, &length);
    if (head < 0) return 0;
    const uint16_t buffers = ((struct header*)received[head])->buffers;
    uint64_t whole = 0;
    for (uint16_t i = 0;; ++i) {
        if (to) copy(to + whole, received[head], length);
        whole += length;
        post((uint16_t)head);
        if (i + 1 >= buffers) break;
        while ((head = take_used_length(&receive, &length)) < 0) relax();
    }
    if (buffers == 0 || whole <= kHeader) ++errors;
    return whole - kHeader;
}

static void send_one(uint16_t i, uint64_t length) {
    send_frame(i, length);
    publish(&send);
    while (take_used(&send) < 0) relax();
}

static void wait_ms(uint64_t ms) {
    const uint64_t until = tsc() + ms * khz;
    while (tsc() < until) relax();
}

static uint64_t run_receive(uint64_t count, uint64_t rounds, uint64_t* cycles) {
    uint64_t done = 0;
    for (uint64_t round = 0; round < rounds; ++round) {
        make_frame(sent[0], 60, 0);
        send_one(0, 60);
        wait_ms(150);
        const uint64_t start = tsc();
        if (round == 0)
            post_all();
        else
            publish(&receive);
        uint64_t got = 0, held = 0;
        const uint64_t deadline = start + 3000 * khz;
        while (got < count && tsc() < deadline) {
            const uint64_t length = take_frame(0);
            if (length == 0) {
                publish(&receive);
                continue;
            }
            if (length != size) ++errors;
            ++got;
            // In steps, as a driver does.
            if (++held == 16 && got < count) held = 0, publish(&receive);
        }
        *cycles += tsc() - start;
        done += got;
        errors += count - got;
    }
    return done;
}

static uint64_t echo(uint16_t i, uint64_t length, uint8_t* to) {
    send_frame(i, length);
    publish(&send);
    const uint64_t deadline = tsc() + 2000 * khz;
    uint64_t got;
    while (!(got = take_frame(to)))
        if (tsc() > deadline) return 0;
    publish(&receive);
    while (take_used(&send) < 0) relax();
    return got;
}

static uint64_t run_round_trips(uint64_t count) {
    make_frame(sent[0], size, 0);
    post_all();
    uint64_t done = 0;
    for (; done < count; ++done)
        if (!echo(0, size, 0)) ++errors;
    return done;
}

static uint64_t run_verify(uint64_t count) {
    uint8_t* const back = allocate(2 * kLargest, 4096);
    uint64_t random = option("seed", 1);
    post_all();
    for (uint64_t n = 0; n < count; ++n) {
        const uint64_t length = kEthernet + random_next(&random) % (size - kEthernet + 1);
        make_frame(sent[0], length, 0);
        for (uint64_t i = kHeader + kEthernet; i < kHeader + length; ++i) sent[0][i] = (uint8_t)random_next(&random);
        const uint64_t got = echo(0, length, back);
        if (got != length) {
            ++errors;
            continue;
        }
        for (uint64_t i = kHeader; i < kHeader + length; ++i)
            if (back[i] != sent[0][i]) {
                ++errors;
                break;
            }
    }
    return count;
}

void guest_main(const uint8_t* boot_parameters) {
    read_command_line(boot_parameters);
    const uint64_t window = find_device(kNet);
    if (!window) stop("error: no network device");
    const int sending = option_is("work", "tx");
    const uint64_t features = start_device(window, sending ? FEATURES_SEND : FEATURES_RECEIVE);
    set_up_queue(&receive, window, 0, kDepth, features);
    set_up_queue(&send, window, 1, kDepth, features);
    finish_device(window);

    size = option("size", 1514);
    gso = option("gso", 0);
    buffer = option("buffer", gso ? 4096 : 1536);
    khz = option("tsc_khz", 1000000);
    const uint64_t count = option("count", 1000);
    if (size + kHeader > kLargest || size < 60) stop("error: size");
    for (int i = 0; i < (sending ? send.size : 1); ++i) {
        sent[i] = allocate(kHeader + size, 4096);
        make_frame(sent[i], size, gso);
    }
    for (int i = 0; !sending && i < receive.size; ++i) received[i] = allocate(buffer, 64);

    uint64_t frames, cycles = 0;
    if (sending) {
        run_send(tsc() + 100 * khz);  // warm
        send.kicks = 0;
    }
    const uint64_t start = tsc();
    if (sending)
        frames = run_send(start + option("ms", 1000) * khz);
    else if (option_is("work", "rx"))
        frames = run_receive(count, option("rounds", 5), &cycles);
    else if (option_is("work", "rtt"))
        frames = run_round_trips(count);
    else
        frames = run_verify(count);
    if (!cycles) cycles = tsc() - start;
    print("result");
    print_number("frames", frames);
    print_number("us", cycles / (khz / 1000));
    print_number("errors", errors);
    print_number("kicks", send.kicks + receive.kicks);
    stop("");
}
