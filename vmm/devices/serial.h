// SPDX-License-Identifier: Apache-2.0
//
// A 16550A UART (National Semiconductor PC16550D data sheet): COM1, the guest's console.
//
// Bounded in both directions. Output waits in a buffer until the loop takes it. While the buffer is full, the
// transmitter reads as busy, as real hardware does; a byte that the guest writes all the same is dropped and counted.
// The console empties the buffer within limits::kConsolePatience_ms even if its sink takes nothing, so a guest never
// waits for ever. Input beyond the FIFO stays with its source until the guest has read some.
//
// Threads: handle_*() on vCPU threads, the other functions on the loop's, counters() on any; one mutex guards the
// registers. save() and restore() need the vCPUs to be stopped.
// Trust: the guest's accesses may be anything; a record for restore() too.
#pragma once

#include <array>
#include <functional>
#include <mutex>

#include "base/bus.h"
#include "base/limits.h"
#include "base/record.h"

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
    /// Counts output bytes that the console took and could not write.
    void count_lost_output(size_t bytes);
    /// Events since the start, under the names of Firecracker's metrics.
    struct Counters {
        uint64_t read_count = 0;          ///< bytes that the guest read
        uint64_t write_count = 0;         ///< bytes that the guest sent
        uint64_t missed_read_count = 0;   ///< reads wider than a register
        uint64_t missed_write_count = 0;  ///< writes wider than a register, and bytes of the guest that were dropped
    };
    Counters counters();

    /// The registers and both buffers; not the counters.
    void save(RecordWriter& writer);
    Result<void> restore(RecordReader& group);

private:
    /// First in, first out, of a fixed size in bytes.
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
        void save(RecordWriter& writer) const;
        Result<void> restore(RecordReader& record, const char* field);

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
    uint8_t divisor_low_ = 12;  // 9600 baud; only the guest reads it back, nothing is sent at this rate
    uint8_t divisor_high_ = 0;
    bool fifo_enabled_ = false;
    bool transmitter_empty_pending_ = false;  // the "transmitter empty" interrupt, until the guest has seen it
    bool line_high_ = false;
    Counters counters_;
    // Events that were noted under the mutex: unlock_and_signal() calls their functions without it.
    bool signal_interrupt_ = false, signal_output_ = false, signal_input_room_ = false;
    void unlock_and_signal(std::unique_lock<std::mutex> lock);
};

}  // namespace wisp
