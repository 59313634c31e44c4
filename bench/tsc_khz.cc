// SPDX-License-Identifier: Apache-2.0
//
// Prints how fast the time-stamp counter runs, in kHz, for guests that have no other clock.
#include <time.h>
#include <x86intrin.h>

#include <cstdint>
#include <cstdio>

static uint64_t now_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

int main() {
    const uint64_t start_ns = now_ns(), start = __rdtsc();
    while (now_ns() - start_ns < 100'000'000) {
    }
    const uint64_t cycles = __rdtsc() - start, elapsed_ns = now_ns() - start_ns;
    printf("%lu\n", cycles * 1'000'000 / elapsed_ns);
}
