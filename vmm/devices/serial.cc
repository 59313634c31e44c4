// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/serial.h"

#include <utility>

namespace wisp {

namespace {

// Registers by offset; 0 and 1 are the divisor while the latch bit of line control is set.
enum : unsigned { kData = 0, kInterruptEnable = 1, kInterruptIdOrFifo = 2, kLineControl = 3, kModemControl = 4 };
enum : unsigned { kLineStatus = 5, kModemStatus = 6, kScratch = 7 };

constexpr uint8_t kIerReceived = 1 << 0, kIerTransmitterEmpty = 1 << 1, kIerMask = 0x0f;
constexpr uint8_t kIirNone = 0x01, kIirTransmitterEmpty = 0x02, kIirReceived = 0x04, kIirFifoEnabled = 0xc0;
constexpr uint8_t kFcrEnable = 1 << 0, kFcrClearReceive = 1 << 1;
constexpr uint8_t kLcrDivisorLatch = 1 << 7;
constexpr uint8_t kMcrDtr = 1 << 0, kMcrRts = 1 << 1, kMcrOut1 = 1 << 2, kMcrOut2 = 1 << 3, kMcrLoop = 1 << 4;
constexpr uint8_t kMcrMask = 0x1f;
constexpr uint8_t kLsrDataReady = 1 << 0, kLsrHoldingEmpty = 1 << 5, kLsrTransmitterIdle = 1 << 6;
constexpr uint8_t kMsrCts = 1 << 4, kMsrDsr = 1 << 5, kMsrRing = 1 << 6, kMsrCarrier = 1 << 7;

constexpr RecordType kRecord{"uart", "serial", 1, Need::kRequired};

}  // namespace

template <size_t Size>
void Serial::Fifo<Size>::save(RecordWriter& writer) const {
    std::array<std::byte, Size> bytes;
    for (size_t i = 0; i < count_; ++i) bytes[i] = std::byte{bytes_[(head_ + i) % Size]};
    writer.blob(std::span(bytes).first(count_));
}

template <size_t Size>
Result<void> Serial::Fifo<Size>::restore(RecordReader& record, const char* field) {
    const auto bytes = TRY(record.blob(field, Size));
    clear();
    for (const std::byte byte : bytes) push(std::to_integer<uint8_t>(byte));
    return {};
}

void Serial::handle_read(uint64_t offset, std::span<std::byte> data) {
    std::unique_lock lock(mutex_);
    if (data.size() != 1) ++counters_.missed_read_count;
    data[0] = static_cast<std::byte>(read_register(static_cast<unsigned>(offset)));
    unlock_and_signal(std::move(lock));
}

void Serial::handle_write(uint64_t offset, std::span<const std::byte> data) {
    std::unique_lock lock(mutex_);
    if (data.size() != 1) ++counters_.missed_write_count;
    write_register(static_cast<unsigned>(offset), std::to_integer<uint8_t>(data[0]));
    unlock_and_signal(std::move(lock));
}

void Serial::unlock_and_signal(std::unique_lock<std::mutex> lock) {
    const bool interrupt = std::exchange(signal_interrupt_, false);
    const bool output = std::exchange(signal_output_, false);
    const bool room = std::exchange(signal_input_room_, false);
    lock.unlock();
    if (interrupt) events_.interrupt();
    if (output) events_.output_ready();
    if (room) events_.input_room();
}

uint8_t Serial::read_register(unsigned reg) {
    const bool latch = line_control_ & kLcrDivisorLatch;
    switch (reg) {
        case kData: {
            if (latch) return divisor_low_;
            if (input_.empty()) return 0;
            signal_input_room_ = input_.full();
            const uint8_t byte = input_.pop();
            ++counters_.read_count;
            update_interrupt();
            return byte;
        }
        case kInterruptEnable:
            return latch ? divisor_high_ : interrupt_enable_;
        case kInterruptIdOrFifo:
            return identify_interrupt();
        case kLineControl:
            return line_control_;
        case kModemControl:
            return modem_control_;
        case kLineStatus:
            return line_status();
        case kModemStatus:
            return modem_status();
        default:
            return scratch_;
    }
}

void Serial::write_register(unsigned reg, uint8_t value) {
    const bool latch = line_control_ & kLcrDivisorLatch;
    switch (reg) {
        case kData:
            if (latch)
                divisor_low_ = value;
            else
                transmit(value);
            break;
        case kInterruptEnable:
            if (latch) {
                divisor_high_ = value;
                break;
            }
            // Enabling the transmitter's interrupt while the transmitter is empty raises the interrupt at once: drivers
            // start to send this way.
            if ((value & ~interrupt_enable_ & kIerTransmitterEmpty) && !output_.full())
                transmitter_empty_pending_ = true;
            interrupt_enable_ = value & kIerMask;
            update_interrupt();
            break;
        case kInterruptIdOrFifo:
            fifo_enabled_ = value & kFcrEnable;
            if (value & kFcrClearReceive) {
                signal_input_room_ = input_.full();
                input_.clear();
                update_interrupt();
            }
            break;
        case kLineControl:
            line_control_ = value;
            break;
        case kModemControl:
            modem_control_ = value & kMcrMask;
            break;
        case kScratch:
            scratch_ = value;
            break;
        default:
            break;  // the status registers are read-only
    }
}

void Serial::transmit(uint8_t byte) {
    ++counters_.write_count;
    transmitter_empty_pending_ = false;
    if (modem_control_ & kMcrLoop) {
        if (!input_.full()) input_.push(byte);
    } else if (output_.full()) {
        ++counters_.missed_write_count;
    } else {
        signal_output_ = signal_output_ || output_.empty();
        output_.push(byte);
    }
    // For the guest the byte is sent at once, unless the buffer is full.
    line_high_ = line_high_ && interrupt_enable_ & kIerReceived && !input_.empty();
    if (!output_.full()) transmitter_empty_pending_ = true;
    update_interrupt();
}

uint8_t Serial::identify_interrupt() {
    const uint8_t fifo = fifo_enabled_ ? kIirFifoEnabled : 0;
    if (interrupt_enable_ & kIerReceived && !input_.empty()) return fifo | kIirReceived;
    if (interrupt_enable_ & kIerTransmitterEmpty && transmitter_empty_pending_) {
        transmitter_empty_pending_ = false;  // reading this register is the acknowledgement
        update_interrupt();
        return fifo | kIirTransmitterEmpty;
    }
    return fifo | kIirNone;
}

uint8_t Serial::line_status() const {
    uint8_t status = 0;
    if (!input_.empty()) status |= kLsrDataReady;
    if (!output_.full()) status |= kLsrHoldingEmpty | kLsrTransmitterIdle;
    return status;
}

uint8_t Serial::modem_status() const {
    if (!(modem_control_ & kMcrLoop)) return kMsrCts | kMsrDsr | kMsrCarrier;
    // In loopback the outputs come back as inputs; drivers probe for the chip this way.
    uint8_t status = 0;
    if (modem_control_ & kMcrRts) status |= kMsrCts;
    if (modem_control_ & kMcrDtr) status |= kMsrDsr;
    if (modem_control_ & kMcrOut1) status |= kMsrRing;
    if (modem_control_ & kMcrOut2) status |= kMsrCarrier;
    return status;
}

void Serial::update_interrupt() {
    const bool high = (interrupt_enable_ & kIerReceived && !input_.empty()) ||
                      (interrupt_enable_ & kIerTransmitterEmpty && transmitter_empty_pending_);
    if (high && !line_high_) signal_interrupt_ = true;
    line_high_ = high;
}

size_t Serial::take_output(std::span<char> to) {
    std::unique_lock lock(mutex_);
    const bool was_full = output_.full();
    size_t taken = 0;
    while (taken < to.size() && !output_.empty()) to[taken++] = static_cast<char>(output_.pop());
    if (was_full && taken > 0) {
        transmitter_empty_pending_ = true;
        update_interrupt();
    }
    unlock_and_signal(std::move(lock));
    return taken;
}

size_t Serial::put_input(std::span<const char> from) {
    std::unique_lock lock(mutex_);
    size_t put = 0;
    while (put < from.size() && !input_.full()) input_.push(static_cast<uint8_t>(from[put++]));
    update_interrupt();
    unlock_and_signal(std::move(lock));
    return put;
}

size_t Serial::input_room() {
    const std::lock_guard lock(mutex_);
    return input_.room();
}

Serial::Counters Serial::counters() {
    const std::lock_guard lock(mutex_);
    return counters_;
}

void Serial::count_lost_output(size_t bytes) {
    const std::lock_guard lock(mutex_);
    counters_.missed_write_count += bytes;
}

void Serial::save(RecordWriter& writer) {
    const std::lock_guard lock(mutex_);
    const auto scope = writer.leaf(kRecord);
    writer.u8(interrupt_enable_);
    writer.u8(line_control_);
    writer.u8(modem_control_);
    writer.u8(scratch_);
    writer.u8(divisor_low_);
    writer.u8(divisor_high_);
    writer.boolean(fifo_enabled_);
    writer.boolean(transmitter_empty_pending_);
    writer.boolean(line_high_);
    output_.save(writer);
    input_.save(writer);
}

Result<void> Serial::restore(RecordReader& group) {
    RecordReader record = TRY(group.record(kRecord));
    const std::lock_guard lock(mutex_);
    interrupt_enable_ = TRY(record.u8("interrupt_enable", 0, kIerMask));
    line_control_ = TRY(record.u8("line_control"));
    modem_control_ = TRY(record.u8("modem_control", 0, kMcrMask));
    scratch_ = TRY(record.u8("scratch"));
    divisor_low_ = TRY(record.u8("divisor_low"));
    divisor_high_ = TRY(record.u8("divisor_high"));
    fifo_enabled_ = TRY(record.boolean("fifo_enabled"));
    transmitter_empty_pending_ = TRY(record.boolean("transmitter_empty_pending"));
    line_high_ = TRY(record.boolean("line_high"));
    TRY(output_.restore(record, "output"));
    TRY(input_.restore(record, "input"));
    return record.finish();
}

}  // namespace wisp
