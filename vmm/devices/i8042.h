// SPDX-License-Identifier: Apache-2.0
//
// I8042: a keyboard controller with a keyboard that can press Ctrl-Alt-Del, and with the line that resets the machine:
// ports 0x60 (data) and 0x64 (command and status), single bytes. It answers all commands of Linux's i8042 and atkbd
// drivers, so that no driver waits for a time-out; there is no mouse. The keyboard speaks scan code set 2, which the
// controller translates to set 1 if the guest asks for it.
//
// Linux gives the controller up if more than 16 bytes come out of it when its driver starts (i8042_flush). So the
// buffer has 16 bytes as in real hardware, and a further press of Ctrl-Alt-Del waits until the guest has read the one
// before, and has seen the buffer empty if its driver has not started yet.
//
// Threads: handle_*() on vCPU threads, send_ctrl_alt_del() and counters() on any; one mutex guards the
// registers. save() and restore() need the vCPUs to be stopped.
// Trust: the guest's accesses may be anything; a record for restore() too.
#pragma once

#include <array>
#include <functional>
#include <initializer_list>
#include <mutex>
#include <optional>

#include "base/bus.h"
#include "base/record.h"
#include "base/result.h"
#include "vmm/stop.h"

namespace wisp {

class I8042 {
public:
    /// `interrupt` raises the keyboard's interrupt line, on any thread, without a lock held.
    I8042(StopSink& stop, std::function<void()> interrupt) : stop_(stop), interrupt_(std::move(interrupt)) {}

    BusDevice& data_port() { return data_; }
    BusDevice& command_port() { return command_; }

    /// Presses and releases the three keys. An error if the guest has not read the four presses before.
    Result<void> send_ctrl_alt_del();

    /// Everything but the counters.
    void save(RecordWriter& writer);
    Result<void> restore(RecordReader& group);

    /// Events since the start, under the names of Firecracker's metrics.
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
    void push(std::initializer_list<uint8_t> bytes);
    void push_ctrl_alt_del();
    bool keyboard_interrupts() const;
    /// Unlocks, and raises the interrupt if there is something new to read.
    void unlock_and_signal(std::unique_lock<std::mutex> lock);
    void reset_machine();

    StopSink& stop_;
    const std::function<void()> interrupt_;
    DataPort data_{*this};
    CommandPort command_{*this};

    std::mutex mutex_;
    std::optional<uint8_t> answer_;     // of the controller; the guest reads it before the keyboard's bytes
    std::array<uint8_t, 16> keyboard_;  // a ring of bytes from the keyboard
    size_t keyboard_head_ = 0, keyboard_count_ = 0;
    unsigned presses_waiting_ = 0;  // of Ctrl-Alt-Del, not in the ring yet
    size_t press_unread_ = 0;       // bytes of the press that is in the ring
    bool driver_started_ = false;   // the guest has set the command byte
    uint8_t command_byte_ = 0x05;   // "controller command byte": interrupts, translation, …
    uint8_t waiting_command_ = 0;   // a controller's command that waits for its argument
    uint8_t waiting_keyboard_ = 0;  // a keyboard's command that waits for its argument
    bool signal_interrupt_ = false;
    Counters counters_;
};

}  // namespace wisp
