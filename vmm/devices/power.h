// SPDX-License-Identifier: Apache-2.0
//
// PowerDevice: the sleep control and status registers of hardware-reduced ACPI (ACPI 6.4, section 4.8.3.7). A guest's
// power-off ends the process.
//
// Threads: vCPU threads. It has no state, so nothing to save.
#pragma once

#include "base/bus.h"
#include "vmm/stop.h"

namespace wisp {

class PowerDevice final : public BusDevice {
public:
    explicit PowerDevice(StopSink& stop) : stop_(stop) {}

    void handle_read(uint64_t offset, std::span<std::byte> data) override;
    void handle_write(uint64_t offset, std::span<const std::byte> data) override;

private:
    StopSink& stop_;
};

}  // namespace wisp
