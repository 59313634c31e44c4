// SPDX-License-Identifier: Apache-2.0
//
// The state of the platform's devices: what is saved is restored, and each field out of range is refused by its name.
#include "vmm/devices/serial.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "vmm/devices/guest_page.h"
#include "vmm/devices/i8042.h"

using namespace wisp;
using Catch::Matchers::Contains;

namespace {

constexpr RecordType kGroup{"test", "machine", 1, Need::kRequired};

template <class Device>
std::vector<std::byte> saved(Device& device) {
    RecordWriter writer;
    {
        const auto scope = writer.group(kGroup);
        device.save(writer);
    }
    return writer.take();
}

template <class Device>
Result<void> restored(Device& device, const std::vector<std::byte>& bytes) {
    RecordReader group = TRY(RecordReader::open(bytes, kGroup));
    TRY(device.restore(group));
    return group.finish();
}

/// A record of `type` whose fields are these bytes, and what a device says to it.
template <class Device>
std::string refusal(Device& device, const RecordType& type, const std::vector<uint8_t>& fields) {
    RecordWriter writer;
    {
        const auto group = writer.group(kGroup);
        const auto leaf = writer.leaf(type);
        for (const uint8_t field : fields) writer.u8(field);
    }
    const auto done = restored(device, writer.take());
    return done ? "" : done.error().message;
}

uint8_t read(BusDevice& device, uint64_t offset) {
    std::byte value{0xff};
    device.handle_read(offset, {&value, 1});
    return std::to_integer<uint8_t>(value);
}
void write(BusDevice& device, uint64_t offset, uint8_t value) {
    const std::byte byte{value};
    device.handle_write(offset, {&byte, 1});
}

struct Uart {
    unsigned interrupts = 0;
    Serial chip{{.interrupt = [this] { ++interrupts; }, .output_ready = [] {}, .input_room = [] {}}};
};

struct Keyboard {
    std::unique_ptr<Loop> loop = *Loop::create();
    StopSink stop{*loop, [](Stop) {}};
    unsigned interrupts = 0;
    I8042 chip{stop, [this] { ++interrupts; }};
};

/// `fields` with the byte at `at` replaced.
std::vector<uint8_t> with(std::vector<uint8_t> fields, size_t at, uint8_t value) {
    fields[at] = value;
    return fields;
}

}  // namespace

TEST_CASE("platform state: a UART goes on where it was saved, with what waits in both directions") {
    Uart from, to;
    write(from.chip, 3, 0x80);
    write(from.chip, 0, 0x34);
    write(from.chip, 1, 0x12);
    write(from.chip, 3, 0x1b);
    write(from.chip, 2, 0x01);
    write(from.chip, 4, 0x0b);
    write(from.chip, 7, 0x77);
    write(from.chip, 1, 0x03);
    for (const char letter : std::string("output")) write(from.chip, 0, static_cast<uint8_t>(letter));
    REQUIRE(from.chip.put_input(std::string_view("input")) == 5);
    const auto bytes = saved(from.chip);
    REQUIRE(restored(to.chip, bytes));
    CHECK(saved(to.chip) == bytes);
    for (const uint64_t reg : {1, 3, 4, 5, 6, 7}) CHECK(read(to.chip, reg) == read(from.chip, reg));
    CHECK(read(to.chip, 2) == 0xc4);
    CHECK(read(to.chip, 0) == 'i');
    char text[10];
    CHECK(std::string(text, to.chip.take_output(text)) == "output");
    CHECK(to.interrupts == 0);  // the line was high already: no new edge
}

TEST_CASE("platform state: a UART's full buffers survive") {
    Uart from, to;
    for (size_t i = 0; i < limits::kConsoleOutput + 5; ++i) write(from.chip, 0, static_cast<uint8_t>(i));
    const std::string input(limits::kConsoleInput, 'i');
    REQUIRE(from.chip.put_input(input) == input.size());
    REQUIRE(restored(to.chip, saved(from.chip)));
    CHECK(to.chip.input_room() == 0);
    CHECK((read(to.chip, 5) & 0x20) == 0);  // the transmitter is busy
    std::vector<char> output(limits::kConsoleOutput + 1);
    REQUIRE(to.chip.take_output(output) == limits::kConsoleOutput);
    CHECK(output[1000] == static_cast<char>(1000));
}

TEST_CASE("platform state: a UART's fields out of range are refused by name") {
    constexpr RecordType kRecord{"uart", "serial", 1, Need::kRequired};
    Uart uart;
    const std::vector<uint8_t> good = {0x0f, 0xff, 0x1f, 0xff, 0xff, 0xff, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0};
    const auto said = [&](size_t at, uint8_t value) { return refusal(uart.chip, kRecord, with(good, at, value)); };
    CHECK(refusal(uart.chip, kRecord, good) == "");
    CHECK_THAT(said(0, 0x10), Contains("serial.interrupt_enable"));
    CHECK_THAT(said(2, 0x20), Contains("serial.modem_control"));
    CHECK_THAT(said(6, 2), Contains("serial.fifo_enabled"));
    CHECK_THAT(said(7, 2), Contains("serial.transmitter_empty_pending"));
    CHECK_THAT(said(8, 2), Contains("serial.line_high"));
    CHECK_THAT(said(11, 1), Contains("serial.output"));  // 64 KiB
    CHECK_THAT(said(13, 65), Contains("serial.input"));
    for (size_t size = 0; size < good.size(); ++size)
        CHECK(refusal(uart.chip, kRecord, {good.begin(), good.begin() + static_cast<long>(size)}) != "");
}

TEST_CASE("platform state: a keyboard controller goes on in the middle of everything") {
    Keyboard from, to;
    write(from.chip.command_port(), 0, 0x60);
    write(from.chip.data_port(), 0, 0x41);
    for (int i = 0; i < 3; ++i) REQUIRE(from.chip.send_ctrl_alt_del());
    CHECK(read(from.chip.data_port(), 0) == 0x1d);
    write(from.chip.data_port(), 0, 0xed);     // the keyboard waits for lights
    write(from.chip.command_port(), 0, 0x20);  // an answer waits
    write(from.chip.command_port(), 0, 0xd2);  // the controller waits for an argument
    const auto bytes = saved(from.chip);
    REQUIRE(restored(to.chip, bytes));
    CHECK(saved(to.chip) == bytes);
    write(from.chip.data_port(), 0, 0x99);
    write(to.chip.data_port(), 0, 0x99);
    std::vector<uint8_t> one, other;
    while (read(from.chip.command_port(), 0) & 1) one.push_back(read(from.chip.data_port(), 0));
    while (read(to.chip.command_port(), 0) & 1) other.push_back(read(to.chip.data_port(), 0));
    CHECK(one.size() == 1 + 7 + 1 + 1 + 8 + 8);
    CHECK(one == other);
}

TEST_CASE("platform state: a keyboard controller's fields out of range are refused by name") {
    constexpr RecordType kRecord{"i842", "i8042", 1, Need::kRequired};
    Keyboard keyboard;
    // answered, answer, keyboard (a length and two bytes), presses_waiting, press_unread, driver_started,
    // command_byte, waiting_command, waiting_keyboard
    const std::vector<uint8_t> good = {1, 0xff, 2, 0, 0, 0, 9, 9, 4, 2, 1, 0xff, 0xd4, 0xf3};
    const auto said = [&](size_t at, uint8_t value) { return refusal(keyboard.chip, kRecord, with(good, at, value)); };
    CHECK(refusal(keyboard.chip, kRecord, good) == "");
    CHECK_THAT(said(0, 2), Contains("i8042.answered"));
    CHECK_THAT(said(2, 17), Contains("i8042.keyboard"));
    CHECK_THAT(said(8, 5), Contains("i8042.presses_waiting"));
    CHECK_THAT(said(9, 3), Contains("i8042.press_unread"));
    CHECK_THAT(said(10, 2), Contains("i8042.driver_started"));
    CHECK_THAT(said(12, 0x20), Contains("i8042.waiting_command"));
    CHECK_THAT(said(13, 0xff), Contains("i8042.waiting_keyboard"));
    for (size_t size = 0; size < good.size(); ++size)
        CHECK(refusal(keyboard.chip, kRecord, {good.begin(), good.begin() + static_cast<long>(size)}) != "");
}

TEST_CASE("platform state: what the guest reported of itself survives") {
    GuestStatus from([] {}), to([] {});
    REQUIRE(restored(to, saved(from)));
    CHECK_FALSE(to.exit_status());
    const uint32_t status = 0x80000000u | 42;
    from.handle_write(8, std::as_bytes(std::span(&status, 1)));
    REQUIRE(restored(to, saved(from)));
    CHECK(to.exit_status() == 42u);
    constexpr RecordType kRecord{"gpag", "guest_page", 1, Need::kRequired};
    CHECK_THAT(refusal(to, kRecord, {2, 0, 0, 0, 0}), Contains("guest_page.reported"));
    CHECK_THAT(refusal(to, kRecord, {1, 0, 0, 0, 0x80}), Contains("guest_page.exit_status"));
}
