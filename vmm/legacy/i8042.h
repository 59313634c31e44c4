// SPDX-License-Identifier: Apache-2.0
//
// The i8042's reset line, and as much of the rest as keeps a guest that probes for a keyboard from waiting: ports 0x60
// (data) and 0x64 (command and status), single bytes.
//
// Threads: vCPU threads; the registers are atomics.
#pragma once

#include <atomic>

#include "base/bus.h"
#include "vmm/stop.h"

namespace wisp {

class I8042 {
public:
    explicit I8042(StopSink& stop) : stop_(stop) {}

    static constexpr uint64_t kDataPort = 0x60;
    static constexpr uint64_t kCommandPort = 0x64;
    BusDevice& data_port() { return data_; }
    BusDevice& command_port() { return command_; }

private:
    class DataPort final : public BusDevice {
    public:
        void handle_read(uint64_t, std::span<std::byte> data) override { data[0] = std::byte{0}; }
        void handle_write(uint64_t, std::span<const std::byte>) override {}
    };
    class CommandPort final : public BusDevice {
    public:
        explicit CommandPort(I8042& owner) : owner_(owner) {}
        void handle_read(uint64_t, std::span<std::byte> data) override;
        void handle_write(uint64_t, std::span<const std::byte> data) override;

    private:
        I8042& owner_;
    };

    StopSink& stop_;
    DataPort data_;
    CommandPort command_{*this};
};

}  // namespace wisp
