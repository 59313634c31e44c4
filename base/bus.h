// SPDX-License-Identifier: Apache-2.0
//
// Bus: finds the device for an address. There is one for port I/O and one for MMIO; the builder fills it, and then it
// does not change.
//
// Threads: handle_*() run on vCPU threads, several at once; a device guards its own registers.
// Trust: addresses and data are the guest's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace wisp {

/// A device with registers. `data` has 1, 2, 4 or 8 bytes, which all lie within the device's range.
class BusDevice {
public:
    /// `data` is filled with ones before the call: the value of a register that the device does not have.
    virtual void handle_read(uint64_t offset, std::span<std::byte> data) = 0;
    virtual void handle_write(uint64_t offset, std::span<const std::byte> data) = 0;

protected:
    ~BusDevice() = default;
};

class Bus {
public:
    /// Places a device (not owned) at [base, base + size). Ranges must not overlap.
    Result<void> insert(uint64_t base, uint64_t size, BusDevice& device, const char* name);

    /// False where no device has all of the range: a read then gives ones, a write is ignored.
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
