// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/i8042.h"

#include <algorithm>
#include <utility>

namespace wisp {

namespace {

// Status register.
constexpr uint8_t kStatusOutputFull = 1 << 0;  // port 0x60 has something to read
constexpr uint8_t kStatusSystem = 1 << 2;      // the self-test has passed
constexpr uint8_t kStatusUnlocked = 1 << 4;

// Controller command byte.
constexpr uint8_t kKeyboardInterrupt = 1 << 0;
constexpr uint8_t kKeyboardDisabled = 1 << 4;
constexpr uint8_t kTranslate = 1 << 6;

// Commands of the controller (port 0x64).
constexpr uint8_t kReadCommandByte = 0x20, kWriteCommandByte = 0x60;
constexpr uint8_t kDisableMouse = 0xa7, kEnableMouse = 0xa8, kTestMouse = 0xa9;
constexpr uint8_t kSelfTest = 0xaa, kTestKeyboard = 0xab, kDisableKeyboard = 0xad, kEnableKeyboard = 0xae;
constexpr uint8_t kReadOutputPort = 0xd0, kWriteOutputPort = 0xd1, kWriteKeyboardBuffer = 0xd2;
constexpr uint8_t kWriteMouseBuffer = 0xd3, kWriteMouse = 0xd4;
// "Pulse output port" with bit 0 low: the line that resets the CPU. What `reboot=k` writes.
constexpr uint8_t kReset = 0xfe;
constexpr uint8_t kOutputNotReset = 1 << 0, kOutputA20 = 1 << 1;
constexpr uint8_t kClockStuckLow = 0x01;  // of a test: nothing is connected

// The keyboard.
constexpr uint8_t kAcknowledge = 0xfa, kTestPassed = 0xaa, kEchoed = 0xee;
constexpr uint8_t kSetLights = 0xed, kEcho = 0xee, kScanCodeSet = 0xf0, kIdentify = 0xf2, kSetRate = 0xf3,
                  kKeyboardReset = 0xff;
constexpr uint8_t kScanCodes = 2;  // the set that it speaks

constexpr unsigned kMaxPresses = 4;  // of Ctrl-Alt-Del that are not read; Firecracker's bound

constexpr RecordType kRecord{"i842", "i8042", 1, Need::kRequired};

/// Commands whose argument comes by port 0x60.
bool takes_argument(uint8_t command) {
    return command == kWriteCommandByte || (command >= kWriteOutputPort && command <= kWriteMouse);
}
bool keyboard_takes_argument(uint8_t command) {
    return command == kSetLights || command == kScanCodeSet || command == kSetRate;
}

}  // namespace

// ---- the guest's side ----

void I8042::DataPort::handle_read(uint64_t, std::span<std::byte> data) {
    std::unique_lock lock(owner_.mutex_);
    data[0] = static_cast<std::byte>(owner_.read_data());
    owner_.unlock_and_signal(std::move(lock));
}

void I8042::DataPort::handle_write(uint64_t, std::span<const std::byte> data) {
    std::unique_lock lock(owner_.mutex_);
    owner_.write_data(std::to_integer<uint8_t>(data[0]));
    owner_.unlock_and_signal(std::move(lock));
}

void I8042::CommandPort::handle_read(uint64_t, std::span<std::byte> data) {
    std::unique_lock lock(owner_.mutex_);
    ++owner_.counters_.read_count;
    const bool full = owner_.answer_ || owner_.keyboard_count_ > 0;
    data[0] = static_cast<std::byte>(kStatusSystem | kStatusUnlocked | (full ? kStatusOutputFull : 0));
    if (!full) owner_.push_ctrl_alt_del();  // for the next read: this one showed the guest an empty buffer
    owner_.unlock_and_signal(std::move(lock));
}

void I8042::CommandPort::handle_write(uint64_t, std::span<const std::byte> data) {
    std::unique_lock lock(owner_.mutex_);
    ++owner_.counters_.write_count;
    owner_.command(std::to_integer<uint8_t>(data[0]));
    owner_.unlock_and_signal(std::move(lock));
}

void I8042::unlock_and_signal(std::unique_lock<std::mutex> lock) {
    const bool interrupt = std::exchange(signal_interrupt_, false);
    lock.unlock();
    if (interrupt) interrupt_();
}

bool I8042::keyboard_interrupts() const {
    return (command_byte_ & (kKeyboardInterrupt | kKeyboardDisabled)) == kKeyboardInterrupt;
}

uint8_t I8042::read_data() {
    ++counters_.read_count;
    if (answer_) return *std::exchange(answer_, std::nullopt);
    if (keyboard_count_ == 0) return 0;
    const uint8_t byte = keyboard_[keyboard_head_];
    keyboard_head_ = (keyboard_head_ + 1) % keyboard_.size();
    --keyboard_count_;
    if (press_unread_ > 0) --press_unread_;
    if (driver_started_) push_ctrl_alt_del();
    signal_interrupt_ = keyboard_count_ > 0 && keyboard_interrupts();  // each byte has an interrupt of its own
    return byte;
}

void I8042::write_data(uint8_t value) {
    ++counters_.write_count;
    if (waiting_command_) return finish_command(std::exchange(waiting_command_, 0), value);
    keyboard_command(value);
}

void I8042::command(uint8_t value) {
    waiting_command_ = 0;
    switch (value) {
        case kReadCommandByte:
            answer_ = command_byte_;
            break;
        case kSelfTest:
            answer_ = 0x55;
            break;
        case kTestKeyboard:
            answer_ = 0x00;
            break;
        case kTestMouse:
            answer_ = kClockStuckLow;
            break;
        case kReadOutputPort:
            answer_ = kOutputNotReset | kOutputA20;
            break;
        case kDisableKeyboard:
            command_byte_ |= kKeyboardDisabled;
            break;
        case kEnableKeyboard:
            command_byte_ &= static_cast<uint8_t>(~kKeyboardDisabled);
            push_ctrl_alt_del();
            signal_interrupt_ = keyboard_count_ > 0 && keyboard_interrupts();
            break;
        case kDisableMouse:
        case kEnableMouse:
            break;
        case kWriteCommandByte:
        case kWriteOutputPort:
        case kWriteKeyboardBuffer:
        case kWriteMouseBuffer:
        case kWriteMouse:
            waiting_command_ = value;
            break;
        case kReset:
            reset_machine();
            break;
        default:
            ++counters_.error_count;
    }
}

void I8042::finish_command(uint8_t command, uint8_t value) {
    switch (command) {
        case kWriteCommandByte:
            command_byte_ = value;
            driver_started_ = true;
            push_ctrl_alt_del();
            signal_interrupt_ = keyboard_count_ > 0 && keyboard_interrupts();
            break;
        case kWriteOutputPort:
            if (!(value & kOutputNotReset)) reset_machine();
            break;
        case kWriteKeyboardBuffer:
            push({value});
            break;
        case kWriteMouseBuffer:
            answer_ = value;  // the status does not mark it as a mouse's byte: there is no mouse
            break;
        default:
            break;  // a byte for the mouse
    }
}

void I8042::keyboard_command(uint8_t value) {
    switch (std::exchange(waiting_keyboard_, 0)) {
        case 0:
            break;
        case kScanCodeSet:
            if (value == 0) return push({kAcknowledge, kScanCodes});
            [[fallthrough]];
        default:
            return push({kAcknowledge});
    }
    switch (value) {
        case kKeyboardReset:
            return push({kAcknowledge, kTestPassed});
        case kIdentify:
            return push({kAcknowledge, 0xab, 0x83});
        case kEcho:
            return push({kEchoed});
        case kSetLights:
        case kScanCodeSet:
        case kSetRate:
            waiting_keyboard_ = value;
            [[fallthrough]];
        default:
            push({kAcknowledge});
    }
}

// A driver that waits for these bytes has no use for older ones: they make room.
void I8042::push(std::initializer_list<uint8_t> bytes) {
    if (keyboard_.size() - keyboard_count_ < bytes.size()) keyboard_count_ = press_unread_ = 0;
    signal_interrupt_ = keyboard_interrupts();
    for (const uint8_t byte : bytes) keyboard_[(keyboard_head_ + keyboard_count_++) % keyboard_.size()] = byte;
}

// Puts a press that waits into the empty ring, unless the guest has switched the keyboard off.
void I8042::push_ctrl_alt_del() {
    if (presses_waiting_ == 0 || keyboard_count_ > 0 || command_byte_ & kKeyboardDisabled) return;
    --presses_waiting_;
    if (command_byte_ & kTranslate)
        push({0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d});
    else
        push({0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14});
    press_unread_ = keyboard_count_;
}

void I8042::reset_machine() {
    ++counters_.reset_count;
    stop_.request({ExitCode::kOk, "the guest reset the machine"});
}

// ---- the operator's side ----

Result<void> I8042::send_ctrl_alt_del() {
    std::unique_lock lock(mutex_);
    if (presses_waiting_ + (press_unread_ > 0) >= kMaxPresses) return fail("I8042 error: i8042 internal buffer full.");
    ++presses_waiting_;
    push_ctrl_alt_del();
    unlock_and_signal(std::move(lock));
    return {};
}

I8042::Counters I8042::counters() {
    const std::lock_guard lock(mutex_);
    return counters_;
}

// ---- state ----

void I8042::save(RecordWriter& writer) {
    const std::lock_guard lock(mutex_);
    const auto scope = writer.leaf(kRecord);
    writer.boolean(answer_.has_value());
    writer.u8(answer_.value_or(0));
    std::array<std::byte, std::tuple_size_v<decltype(keyboard_)>> bytes;
    for (size_t i = 0; i < keyboard_count_; ++i)
        bytes[i] = std::byte{keyboard_[(keyboard_head_ + i) % keyboard_.size()]};
    writer.blob(std::span(bytes).first(keyboard_count_));
    writer.u8(static_cast<uint8_t>(presses_waiting_));
    writer.u8(static_cast<uint8_t>(press_unread_));
    writer.boolean(driver_started_);
    writer.u8(command_byte_);
    writer.u8(waiting_command_);
    writer.u8(waiting_keyboard_);
}

Result<void> I8042::restore(RecordReader& group) {
    RecordReader record = TRY(group.record(kRecord));
    const std::lock_guard lock(mutex_);
    const bool answered = TRY(record.boolean("answered"));
    const uint8_t answer = TRY(record.u8("answer"));
    answer_ = answered ? std::optional(answer) : std::nullopt;
    const auto bytes = TRY(record.blob("keyboard", keyboard_.size()));
    keyboard_head_ = 0;
    keyboard_count_ = bytes.size();
    std::ranges::transform(bytes, keyboard_.begin(), std::to_integer<uint8_t>);
    presses_waiting_ = TRY(record.u8("presses_waiting", 0, kMaxPresses));
    press_unread_ = TRY(record.u8("press_unread", 0, static_cast<uint8_t>(keyboard_count_)));
    driver_started_ = TRY(record.boolean("driver_started"));
    command_byte_ = TRY(record.u8("command_byte"));
    waiting_command_ = TRY(record.u8("waiting_command"));
    if (waiting_command_ != 0 && !takes_argument(waiting_command_))
        return record.refuse("waiting_command", "0x%02x has no argument", waiting_command_);
    waiting_keyboard_ = TRY(record.u8("waiting_keyboard"));
    if (waiting_keyboard_ != 0 && !keyboard_takes_argument(waiting_keyboard_))
        return record.refuse("waiting_keyboard", "0x%02x has no argument", waiting_keyboard_);
    return record.finish();
}

}  // namespace wisp
