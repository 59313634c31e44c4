// SPDX-License-Identifier: Apache-2.0
//
// The vsock bench guest. It connects to port 5000 of the host, where bench/vsock_peer.cc listens, and does what its
// command line says until that ends:
//   work=send      sends packets of `size` bytes for `ms` milliseconds, then closes
//   work=receive   takes all that comes until a byte that is not 0, then answers with one byte
//   work=echo      sends back what comes
//   work=accept    answers connections from the host to port 52, which it closes when the host does
//   size=BYTES  ms=MILLISECONDS  tsc_khz=KHZ
// It polls, keeps its credit as a Linux guest does (256 KiB), and prints one line: result packets=N kicks=N errors=N.
#include "virtio.h"

enum { kVsock = 19, kHostCid = 2, kStream = 1, kHostPort = 5000, kGuestPort = 1024, kAcceptPort = 52 };
enum { kRequest = 1, kResponse, kReset, kShutdown, kData, kCreditUpdate, kCreditRequest };
enum { kNoReceive = 1, kNoSend = 2 };
enum { kMaxPacket = 65536, kReceiveBuffers = 64, kSlots = 128, kCredit = 262144 };

struct header {
    uint64_t source_cid, destination_cid;
    uint32_t source_port, destination_port, length;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

static struct queue rx, tx, events;
static struct header *received[kReceiveBuffers], *sent[kSlots];
static uint16_t free_slots[kSlots];
static unsigned free_count;
static uint64_t cid, errors, packets;

// The one connection that carries data
static uint32_t peer_alloc, peer_forwarded, sent_bytes, got_bytes, told_bytes;
static int connected, host_ended, over;  // host_ended: the byte that is not 0 came

static void reclaim(void) {
    for (int head; (head = take_used(&tx)) >= 0;) free_slots[free_count++] = (uint16_t)(head / 2);
}

static void send(uint16_t op, uint32_t port, uint32_t host_port, uint32_t length, uint32_t flags) {
    while (free_count == 0) {
        publish(&tx);
        reclaim();
        relax();
    }
    const uint16_t slot = free_slots[--free_count];
    struct header* h = sent[slot];
    *h = (struct header){cid, kHostCid, port, host_port, length, kStream, op, flags, kCredit, got_bytes};
    if (port == kGuestPort) told_bytes = got_bytes;
    struct descriptor* d = tx.descriptors + 2 * slot;
    d[0].flags = length ? kNext : 0;
    d[1].length = length;
    make_available(&tx, (uint16_t)(2 * slot));
}

static uint32_t credit(void) {
    return peer_alloc - (sent_bytes - peer_forwarded);
}

static void on_packet(const struct header* h, const uint8_t* data) {
    ++packets;
    if (h->destination_port != kGuestPort) {  // of a connection that the host opened
        if (h->op == kRequest) send(kResponse, h->destination_port, h->source_port, 0, 0);
        if (h->op == kShutdown && (h->flags & kNoSend)) send(kReset, h->destination_port, h->source_port, 0, 0);
        return;
    }
    peer_alloc = h->buf_alloc;
    peer_forwarded = h->fwd_cnt;
    switch (h->op) {
        case kResponse:
            connected = 1;
            break;
        case kData:
            got_bytes += h->length;
            if (h->length && data[h->length - 1]) host_ended = 1;
            if (got_bytes - told_bytes >= kCredit / 2) send(kCreditUpdate, kGuestPort, kHostPort, 0, 0);
            break;
        case kCreditRequest:
            send(kCreditUpdate, kGuestPort, kHostPort, 0, 0);
            break;
        case kShutdown:
            if (h->flags == (kNoSend | kNoReceive)) {
                send(kReset, kGuestPort, kHostPort, 0, 0);
                over = 1;
            }
            break;
        case kReset:
            over = 1;
            break;
    }
}

static void receive(void) {
    for (int head; (head = take_used(&rx)) >= 0;) {
        on_packet(received[head / 2], (const uint8_t*)rx.descriptors[head + 1].address);
        make_available(&rx, (uint16_t)head);
    }
    publish(&rx);
    reclaim();
}

static void set_up(void) {
    const uint64_t window = find_device(kVsock);
    if (!window) stop("error: no vsock device");
    const uint64_t features = start_device(window, 1ull << 29);
    set_up_queue(&rx, window, 0, 2 * kReceiveBuffers, features);
    set_up_queue(&tx, window, 1, 2 * kSlots, features);
    set_up_queue(&events, window, 2, 16, features);
    cid = mmio_read(window + 0x100) | (uint64_t)mmio_read(window + 0x104) << 32;
    for (uint16_t i = 0; i < kReceiveBuffers; ++i) {
        received[i] = allocate(sizeof(struct header), 64);
        void* data = allocate(kMaxPacket, 4096);
        rx.descriptors[2 * i] =
            (struct descriptor){(uint64_t)received[i], sizeof(struct header), kNext | kWrite, (uint16_t)(2 * i + 1)};
        rx.descriptors[2 * i + 1] = (struct descriptor){(uint64_t)data, kMaxPacket, kWrite, 0};
        make_available(&rx, (uint16_t)(2 * i));
    }
    for (uint16_t i = 0; i < kSlots; ++i) {
        sent[i] = allocate(sizeof(struct header), 64);
        void* data = allocate(kMaxPacket, 4096);
        tx.descriptors[2 * i] = (struct descriptor){(uint64_t)sent[i], sizeof(struct header), 0, (uint16_t)(2 * i + 1)};
        tx.descriptors[2 * i + 1] = (struct descriptor){(uint64_t)data, 0, 0, 0};
        free_slots[free_count++] = i;
    }
    finish_device(window);
    publish(&rx);
}

static void send_data(uint32_t size) {
    send(kData, kGuestPort, kHostPort, size, 0);
    sent_bytes += size;
}

static void send_until(uint64_t deadline, uint32_t size) {
    while (!over && tsc() < deadline) {
        int any = 0;
        while (free_count > 0 && credit() >= size) {
            send_data(size);
            any = 1;
        }
        publish(&tx);
        receive();
        if (!any) relax();
    }
    send(kShutdown, kGuestPort, kHostPort, 0, kNoSend | kNoReceive);
}

static void echo(void) {
    uint32_t answered = 0;
    while (!over) {
        receive();
        if (answered != got_bytes) {
            send_data(got_bytes - answered);
            answered = got_bytes;
        }
        publish(&tx);
    }
}

void guest_main(const uint8_t* boot_parameters) {
    read_command_line(boot_parameters);
    set_up();
    send(kRequest, kGuestPort, kHostPort, 0, 0);
    publish(&tx);
    while (!connected && !over) receive();
    if (!connected) stop("error: the host refused the connection");
    if (option_is("work", "send"))
        send_until(tsc() + option("ms", 1000) * option("tsc_khz", 1000000), (uint32_t)option("size", 65536));
    else if (option_is("work", "receive")) {
        while (!host_ended && !over) {
            receive();
            publish(&tx);
        }
        send_data(1);
    } else if (option_is("work", "echo"))
        echo();
    while (!over) {
        publish(&tx);
        receive();
    }
    publish(&tx);
    print("result");
    print_number("packets", packets);
    print_number("kicks", rx.kicks + tx.kicks);
    print_number("errors", errors);
    stop("");
}
