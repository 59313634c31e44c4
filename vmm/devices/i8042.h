// SPDX-License-Identifier: Apache-2.0
//
// An i8042 keyboard controller with a keyboard that can press Ctrl-Alt-Del, and with the line that resets the machine:
// ports 0x60 (data) and 0x64 (command and status), single bytes. It answers all that Linux's i8042 and atkbd drivers
// ask, so that none of them waits for a time-out; there is no mouse. The keyboard speaks scan code set 2, which the
// controller translates to set 1 if the guest asks it to.
//
// Threads: handle_*() on vCPU threads, send_ctrl_alt_del() and counters() on the loop's; one mutex guards the
// registers.
#pragma once

#include <array>
#include <functional>
#include <initializer_list>
#include <mutex>
#include <optional>

#include "base/bus.h"
#include "base/result.h"
#include "vmm/stop.h"

namespace wisp {

class I8042 {
public:
    /// `interrupt` raises the keyboard's interrupt line, from any thread.
    I8042(StopSink& stop, std::function<void()> interrupt) : stop_(stop), interrupt_(std::move(interrupt)) {}

    BusDevice& data_port() { return data_; }
    BusDevice& command_port() { return command_; }

    /// Presses and releases the three keys. An error if the guest has not read what was pressed before.
    Result<void> send_ctrl_alt_del();

    /// What happened since the start, under the names that Firecracker's metrics have.
    struct Counters {
        uint64_t error_count = 0;  ///< commands that no i8042 has
        uint64_t read_count = 0;
        uint64_t reset_count = 0;
        uint64_t write_count = 0;
    };
    Counters counters();

private:
    class DataPort final : public BusDevice {
    public:
        explicit DataPort(I8042& owner) : owner_(owner) {}
        void handle_read(uint64_t, std::span<std::byte> data) override;
        void handle_write(uint64_t, std::span<const std::byte> data) override;

    private:
        I8042& owner_;
    };
    class CommandPort final : public BusDevice {
    public:
        explicit CommandPort(I8042& owner) : owner_(owner) {}
        void handle_read(uint64_t, std::span<std::byte> data) override;
        void handle_write(uint64_t, std::span<const std::byte> data) override;

    private:
        I8042& owner_;
    };

    uint8_t read_data();
    void write_data(uint8_t value);
    void command(uint8_t value);
    void finish_command(uint8_t command, uint8_t value);
    void keyboard_command(uint8_t value);
    void keyboard_says(std::initializer_list<uint8_t> bytes);
    bool keyboard_interrupts() const;
    /// Lets go of the lock, and raises the interrupt if there is something new to read.
    void leave(std::unique_lock<std::mutex> lock);
    void reset_machine();

    StopSink& stop_;
    const std::function<void()> interrupt_;
    DataPort data_{*this};
    CommandPort command_{*this};

    std::mutex mutex_;
    std::optional<uint8_t> answer_;     // the controller's own, before what the keyboard says
    std::array<uint8_t, 48> keyboard_;  // what the keyboard says: a ring
    size_t keyboard_head_ = 0, keyboard_count_ = 0;
    uint8_t command_byte_ = 0x05;   // "controller command byte": interrupts, translation, …
    uint8_t waiting_command_ = 0;   // of the controller, for its argument
    uint8_t waiting_keyboard_ = 0;  // of the keyboard, likewise
    bool tell_interrupt_ = false;   // once the mutex is let go
    Counters counters_;
};

}  // namespace wisp
