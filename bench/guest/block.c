// SPDX-License-Identifier: Apache-2.0
//
// The block bench guest. On its command line:
//   work=randread|randwrite|read|write|verify  size=BYTES  depth=N  ms=MILLISECONDS  tsc_khz=KHZ  span=BYTES  seed=N
//   requests=N  hold=1
// It keeps `depth` requests of `size` bytes under way for that long, or until `requests` are done, polls, and prints
// one line:
//   result requests=N us=N errors=N kicks=N
// With hold it stays after that, and does nothing.
// verify writes a pattern over `span` bytes, reads it back and compares.
#include "virtio.h"

enum { kSector = 512, kMaxDepth = 85, kBlock = 2 };

struct request {
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    uint8_t status;
    uint8_t* data;
};

static struct queue queue;
static struct request requests[kMaxDepth];
static uint64_t size, depth, blocks, next_block, seed, errors;
static int sequential, writing;

// Three descriptors a request, always the same ones: head 3i.
static void prepare(uint64_t i) {
    struct request* r = &requests[i];
    struct descriptor* d = queue.descriptors + 3 * i;
    r->data = allocate(size, 4096);
    d[0] = (struct descriptor){(uint64_t)&r->header, 16, kNext, (uint16_t)(3 * i + 1)};
    d[1] = (struct descriptor){(uint64_t)r->data, (uint32_t)size, kNext, (uint16_t)(3 * i + 2)};
    d[2] = (struct descriptor){(uint64_t)&r->status, 1, kWrite, 0};
}

static void send(uint64_t i, uint64_t block) {
    struct request* r = &requests[i];
    r->header.type = (uint32_t)writing;
    r->header.sector = block * (size / kSector);
    r->status = 0xff;
    queue.descriptors[3 * i + 1].flags = (uint16_t)(kNext | (writing ? 0 : kWrite));
    make_available(&queue, (uint16_t)(3 * i));
}

static uint64_t choose_block(void) {
    if (!sequential) return (uint64_t)(((unsigned __int128)random_next(&seed) * blocks) >> 64);
    const uint64_t block = next_block++;
    if (next_block == blocks) next_block = 0;
    return block;
}

static uint64_t pattern(uint64_t block, uint64_t word) {
    return (block * 0x9e3779b97f4a7c15ull) ^ (word * 0x2545f4914f6cdd1dull) ^ seed;
}

// Keeps the queue full until `deadline`, or for `most` requests if that is not 0, then lets it run dry. Returns the
// requests done.
static uint64_t run(uint64_t deadline, uint64_t most) {
    uint64_t done = 0, under_way = 0;
    for (; under_way < depth; ++under_way) send(under_way, choose_block());
    publish(&queue);
    while (under_way > 0) {
        int head;
        int more = tsc() < deadline;
        while ((head = take_used(&queue)) >= 0) {
            const uint64_t i = (uint64_t)head / 3;
            ++done;
            if (requests[i].status != 0) ++errors;
            if (most) more = done + under_way <= most;
            if (more)
                send(i, choose_block());
            else
                --under_way;
        }
        publish(&queue);
    }
    return done;
}

// One pass over all blocks, `depth` at a time. `before` sees each request before it is sent, `after` once it is done.
static void pass(void (*before)(struct request*, uint64_t), void (*after)(struct request*, uint64_t)) {
    uint64_t block_of[kMaxDepth], sent = 0;
    const uint64_t together = depth < blocks ? depth : blocks;
    for (uint64_t done = 0, i = 0; done < blocks;) {
        if (sent < blocks && (sent < together || done > sent - together)) {
            if (sent < together) i = sent;
            block_of[i] = sent++;
            if (before) before(&requests[i], block_of[i]);
            send(i, block_of[i]);
            publish(&queue);
            continue;
        }
        int head;
        while ((head = take_used(&queue)) < 0) relax();
        i = (uint64_t)head / 3;
        ++done;
        if (requests[i].status != 0) ++errors;
        if (after) after(&requests[i], block_of[i]);
    }
}

static void fill(struct request* r, uint64_t block) {
    for (uint64_t word = 0; word < size / 8; ++word) ((uint64_t*)r->data)[word] = pattern(block, word);
}
static void compare(struct request* r, uint64_t block) {
    for (uint64_t word = 0; word < size / 8; ++word)
        if (((uint64_t*)r->data)[word] != pattern(block, word)) {
            ++errors;
            return;
        }
}

static uint64_t verify(void) {
    writing = 1;
    pass(fill, 0);
    writing = 0;
    pass(0, compare);
    return 2 * blocks;
}

void guest_main(const uint8_t* boot_parameters) {
    read_command_line(boot_parameters);
    const uint64_t window = find_device(kBlock);
    if (!window) stop("error: no block device");
    const uint64_t features = start_device(window, 1ull << 29);
    set_up_queue(&queue, window, 0, 256, features);
    finish_device(window);

    const uint64_t capacity = (mmio_read(window + 0x100) | (uint64_t)mmio_read(window + 0x104) << 32) * kSector;
    size = option("size", 4096);
    depth = option("depth", 32);
    seed = option("seed", 1);
    const uint64_t span = option("span", capacity);
    blocks = (span < capacity ? span : capacity) / size;
    if (depth == 0 || depth > kMaxDepth || blocks == 0) stop("error: depth or size");
    for (uint64_t i = 0; i < depth; ++i) prepare(i);

    writing = option_is("work", "randwrite") || option_is("work", "write");
    sequential = option_is("work", "read") || option_is("work", "write");
    const uint64_t khz = option("tsc_khz", 1000000);
    const uint64_t most = option("requests", 0);
    run(tsc() + 100 * khz, most ? 4 * depth : 0);  // warm
    queue.kicks = errors = 0;
    const uint64_t start = tsc();
    const uint64_t done = option_is("work", "verify") ? verify() : run(start + option("ms", 1000) * khz, most);
    const uint64_t cycles = tsc() - start;
    print("result");
    print_number("requests", done);
    print_number("us", cycles / (khz / 1000));
    print_number("errors", errors);
    print_number("kicks", queue.kicks);
    if (option("hold", 0)) {
        print("\n");
        for (;;) relax();
    }
    stop("");
}
