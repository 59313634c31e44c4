// SPDX-License-Identifier: Apache-2.0
//
// Bus: which device answers an address. One for port I/O, one for MMIO; filled by the builder, then never changed.
//
// Threads: handle_*() are called on vCPU threads, several at once; a device guards its own registers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace wisp {

/// Something with registers. `data` is 1, 2, 4 or 8 bytes; all of its bytes lie within the device's range.
class BusDevice {
public:
    /// `data` comes filled with ones, which is what stays if the device leaves it alone.
    virtual void handle_read(uint64_t offset, std::span<std::byte> data) = 0;
    virtual void handle_write(uint64_t offset, std::span<const std::byte> data) = 0;

protected:
    ~BusDevice() = default;
};

class Bus {
public:
    /// Places a device (not owned) at [base, base + size). Ranges must not overlap.
    Result<void> insert(uint64_t base, uint64_t size, BusDevice& device, const char* name);

    /// False where no device claims all of the access: a read then gives ones, a write is ignored.
    bool read(uint64_t address, std::span<std::byte> data) const;
    bool write(uint64_t address, std::span<const std::byte> data) const;

private:
    struct Entry {
        uint64_t base;
        uint64_t size;
        BusDevice* device;
        const char* name;
    };
    const Entry* find(uint64_t address, size_t size) const;

    std::vector<Entry> entries_;  // a handful: a scan is faster than a tree
};

}  // namespace wisp
