// SPDX-License-Identifier: Apache-2.0
// The page at physical address 0xc0000000, by which the guest reports to its monitor. Without such a monitor the writes
// have no effect; where the address is RAM the kernel refuses the mapping. Neither is an error.

#include "init.h"

namespace {

constexpr uint64_t kPageAddress = 0xc000'0000;
constexpr size_t kPageSize = 4096;
constexpr size_t kBootTimerOffset = 0;   // one byte
constexpr size_t kExitStatusOffset = 8;  // le32
constexpr uint8_t kBooted = 123;
constexpr uint32_t kStatusIsValid = 1U << 31;

volatile uint8_t* page = nullptr;

// False only if there is no /dev/mem yet.
bool map_page() {
    const int memory = sys::open("/dev/mem", O_RDWR | O_SYNC);
    if (memory == -ENOENT) return false;
    const long address = sys::mmap_shared(memory, kPageSize, PROT_READ | PROT_WRITE, kPageAddress);
    sys::close(memory);  // the mapping stays
    const bool failed = address < 0 && address > -4096;
    if (!failed) page = reinterpret_cast<volatile uint8_t*>(address);
    return true;
}

}  // namespace

bool report_boot() {
    if (!map_page()) return false;
    if (page != nullptr) page[kBootTimerOffset] = kBooted;
    return true;
}

void report_exit_status(int status) {
    if (page == nullptr) return;
    const uint32_t word = kStatusIsValid | static_cast<uint32_t>(status);
    *reinterpret_cast<volatile uint32_t*>(page + kExitStatusOffset) = word;
}
