// SPDX-License-Identifier: Apache-2.0
#include "runtime.h"

enum { kSerialPort = 0x3f8, kKeyboardCommand = 0x64, kPulseReset = 0xfe, kCommandLinePointer = 0x228 };

static const char* command_line = "";
static uint64_t heap = 0x2000000;  // behind the image at 16 MiB

void* memset(void* to, int value, size_t size) {
    uint8_t* out = to;
    while (size--) *out++ = (uint8_t)value;
    return to;
}

void print(const char* text) {
    while (*text) out8(kSerialPort, (uint8_t)*text++);
}

void print_number(const char* name, uint64_t value) {
    char digits[21];
    char* at = digits + sizeof digits;
    *--at = 0;
    do *--at = (char)('0' + value % 10);
    while (value /= 10);
    print(" ");
    print(name);
    print("=");
    print(at);
}

void read_command_line(const uint8_t* boot_parameters) {
    command_line = (const char*)(uint64_t)(*(const uint32_t*)(boot_parameters + kCommandLinePointer));
}

static const char* find(const char* name) {
    for (const char* word = command_line; *word;) {
        const char *a = word, *b = name;
        while (*b && *a == *b) ++a, ++b;
        if (!*b && *a == '=') return a + 1;
        while (*word && *word != ' ') ++word;
        while (*word == ' ') ++word;
    }
    return 0;
}

uint64_t option(const char* name, uint64_t otherwise) {
    const char* text = find(name);
    if (!text) return otherwise;
    uint64_t value = 0;
    while (*text >= '0' && *text <= '9') value = value * 10 + (uint64_t)(*text++ - '0');
    return value;
}

int option_is(const char* name, const char* value) {
    const char* text = find(name);
    if (!text) return 0;
    while (*value && *text == *value) ++text, ++value;
    return !*value && (*text == ' ' || *text == 0);
}

void stop(const char* why) {
    print(why);
    print("\n");
    out8(kKeyboardCommand, kPulseReset);
    for (;;) relax();
}

void* allocate(size_t size, size_t alignment) {
    heap = (heap + alignment - 1) & ~(uint64_t)(alignment - 1);
    void* memory = (void*)heap;
    heap += size;
    return memset(memory, 0, size);
}
