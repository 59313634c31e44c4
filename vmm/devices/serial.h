// SPDX-License-Identifier: Apache-2.0
//
// A 16550A UART (National Semiconductor PC16550D data sheet): COM1, the guest's console.
//
// Bounded in both directions. Output waits in a buffer for the loop to take it; when that is full, the transmitter
// reads as busy, which is how real hardware tells a driver to wait, and bytes written all the same are dropped and
// counted. Input beyond the FIFO stays with its source until the guest has read some.
//
// Threads: handle_*() on vCPU threads, the rest on the loop's; one mutex guards the registers.
#pragma once

#include <array>
#include <functional>
#include <mutex>

#include "base/bus.h"
#include "base/limits.h"

namespace wisp {

class Serial final : public BusDevice {
public:
    struct Events {
        std::function<void()> interrupt;     ///< an edge on the interrupt line; any thread
        std::function<void()> output_ready;  ///< the output buffer is no longer empty; vCPU thread
        std::function<void()> input_room;    ///< a full input FIFO has room again; vCPU thread
    };
    explicit Serial(Events events) : events_(std::move(events)) {}

    void handle_read(uint64_t offset, std::span<std::byte> data) override;
    void handle_write(uint64_t offset, std::span<const std::byte> data) override;

    /// Moves waiting output into `to`; returns the bytes moved.
    size_t take_output(std::span<char> to);
    /// Puts input into the FIFO; returns the bytes that it had room for.
    size_t put_input(std::span<const char> from);
    /// Room in the input FIFO, in bytes.
    size_t input_room();
    /// What happened since the start, under the names that Firecracker's metrics have.
    struct Counters {
        uint64_t read_count = 0;         ///< bytes that the guest took
        uint64_t write_count = 0;        ///< bytes that it sent
        uint64_t missed_read_count = 0;  ///< accesses wider than a register
        uint64_t missed_write_count = 0;
        uint64_t dropped = 0;  ///< bytes that it sent while the transmitter was busy
    };
    Counters counters();

private:
    /// First in, first out, of a fixed size.
    template <size_t Size>
    class Fifo {
    public:
        bool empty() const { return count_ == 0; }
        bool full() const { return count_ == Size; }
        size_t room() const { return Size - count_; }
        void push(uint8_t byte) { bytes_[(head_ + count_++) % Size] = byte; }
        uint8_t pop() {
            const uint8_t byte = bytes_[head_];
            head_ = (head_ + 1) % Size;
            --count_;
            return byte;
        }
        void clear() { head_ = count_ = 0; }

    private:
        std::array<uint8_t, Size> bytes_;
        size_t head_ = 0, count_ = 0;
    };

    uint8_t read_register(unsigned reg);
    void write_register(unsigned reg, uint8_t value);
    void transmit(uint8_t byte);
    uint8_t identify_interrupt();
    uint8_t line_status() const;
    uint8_t modem_status() const;
    /// Raises the line if a reason for it is new. Called after every change.
    void update_interrupt();

    std::mutex mutex_;
    Events events_;
    Fifo<limits::kConsoleOutput> output_;
    Fifo<limits::kConsoleInput> input_;
    uint8_t interrupt_enable_ = 0;
    uint8_t line_control_ = 3;  // 8 data bits
    uint8_t modem_control_ = 0x08;
    uint8_t scratch_ = 0;
    uint8_t divisor_low_ = 12;  // 9600 baud: the value is kept for the guest and slows nothing down
    uint8_t divisor_high_ = 0;
    bool fifo_enabled_ = false;
    bool transmitter_empty_pending_ = false;  // the "transmitter empty" interrupt, until the guest has seen it
    bool line_high_ = false;
    Counters counters_;
    // What happened under the mutex and is told after it is let go.
    bool tell_interrupt_ = false, tell_output_ = false, tell_input_room_ = false;
    void tell(std::unique_lock<std::mutex> lock);
};

}  // namespace wisp
