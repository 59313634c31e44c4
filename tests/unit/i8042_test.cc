// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/i8042.h"

#include <catch2/catch.hpp>
#include <vector>

using namespace wisp;

namespace {

struct Rig {
    std::unique_ptr<Loop> loop = *Loop::create();
    std::optional<Stop> stopped;
    StopSink stop{*loop, [this](Stop why) { stopped = std::move(why); }};
    unsigned interrupts = 0;
    I8042 chip{stop, [this] { ++interrupts; }};

    static uint8_t read(BusDevice& port) {
        std::byte value{0xff};
        port.handle_read(0, {&value, 1});
        return std::to_integer<uint8_t>(value);
    }
    static void write(BusDevice& port, uint8_t value) {
        const std::byte byte{value};
        port.handle_write(0, {&byte, 1});
    }
    void command(uint8_t value) { write(chip.command_port(), value); }
    void data(uint8_t value) { write(chip.data_port(), value); }
    bool full() { return read(chip.command_port()) & 1; }
    std::vector<uint8_t> all() {
        std::vector<uint8_t> bytes;
        while (full()) bytes.push_back(read(chip.data_port()));
        return bytes;
    }
};

using Bytes = std::vector<uint8_t>;

}  // namespace

TEST_CASE("i8042: the controller answers what drivers ask") {
    Rig rig;
    CHECK(Rig::read(rig.chip.command_port()) == 0x14);
    for (const auto& [asked, answer] : std::initializer_list<std::pair<uint8_t, uint8_t>>{
             {0xaa, 0x55}, {0xab, 0x00}, {0xa9, 0x01}, {0xd0, 0x03}, {0x20, 0x05}}) {
        rig.command(asked);
        CHECK(rig.all() == Bytes{answer});
    }
    rig.command(0x60);
    rig.data(0x74);
    rig.command(0x20);
    CHECK(rig.all() == Bytes{0x74});
    rig.command(0xae);
    rig.command(0x20);
    CHECK(rig.all() == Bytes{0x64});
    CHECK(rig.interrupts == 0);
}

TEST_CASE("i8042: a controller command without its argument is forgotten at the next one") {
    Rig rig;
    rig.command(0x60);
    rig.command(0x20);
    rig.data(0xee);  // to the keyboard
    CHECK(rig.all() == Bytes{0x05, 0xee});
}

TEST_CASE("i8042: the keyboard acknowledges, and each byte is an interrupt") {
    Rig rig;
    rig.data(0xff);
    CHECK(rig.interrupts == 1);
    CHECK(rig.all() == Bytes{0xfa, 0xaa});
    CHECK(rig.interrupts == 2);
    rig.data(0xed);
    rig.data(0xff);  // lights, not reset
    CHECK(rig.all() == Bytes{0xfa, 0xfa});
}

TEST_CASE("i8042: bytes that came while interrupts were off raise one when they are on") {
    Rig rig;
    rig.command(0x60);
    rig.data(0x04);
    REQUIRE(rig.chip.send_ctrl_alt_del());
    CHECK(rig.interrupts == 0);
    rig.command(0x60);
    rig.data(0x05);
    CHECK(rig.interrupts == 1);
    rig.command(0xad);  // off again, and on
    rig.command(0xae);
    CHECK(rig.interrupts == 2);
}

TEST_CASE("i8042: Ctrl-Alt-Del in both scan code sets") {
    Rig rig;
    REQUIRE(rig.chip.send_ctrl_alt_del());
    CHECK(rig.all() == Bytes{0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14});
    CHECK(rig.interrupts == 11);
    rig.command(0x60);
    rig.data(0x45);
    REQUIRE(rig.chip.send_ctrl_alt_del());
    CHECK(rig.all() == Bytes{0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d});
}

TEST_CASE("i8042: what is not read is bounded") {
    Rig rig;
    for (int i = 0; i < 4; ++i) REQUIRE(rig.chip.send_ctrl_alt_del());
    const auto full = rig.chip.send_ctrl_alt_del();
    REQUIRE_FALSE(full);
    CHECK(full.error().message == "I8042 error: i8042 internal buffer full.");
    for (int i = 0; i < 100; ++i) rig.data(0xff);
    CHECK(rig.all().size() <= 16);
    CHECK(rig.chip.send_ctrl_alt_del());
}

// Linux's i8042_flush() gives the controller up where a 17th byte comes.
TEST_CASE("i8042: however often Ctrl-Alt-Del is sent before its driver starts, the driver empties the buffer") {
    for (int presses = 1; presses <= 4; ++presses) {
        Rig rig;
        for (int i = 0; i < presses; ++i) REQUIRE(rig.chip.send_ctrl_alt_del());
        CHECK(rig.all().size() == 11);
        // Then it takes the controller: no byte comes while the keyboard is off, and a whole press when it is on.
        rig.command(0x60);
        rig.data(0x54);
        rig.all();
        rig.command(0x60);
        rig.data(0x45);
        CHECK(rig.all().size() == (presses > 2 ? 8u * static_cast<unsigned>(presses - 2) : 0));
        REQUIRE(rig.chip.send_ctrl_alt_del());
        CHECK(rig.all() == Bytes{0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d});
    }
}

TEST_CASE("i8042: a press while the keyboard is off comes when it is on, with an interrupt") {
    Rig rig;
    rig.command(0xad);
    REQUIRE(rig.chip.send_ctrl_alt_del());
    CHECK_FALSE(rig.full());
    CHECK(rig.interrupts == 0);
    rig.command(0xae);
    CHECK(rig.interrupts == 1);
    CHECK(rig.all().size() == 11);
}

TEST_CASE("i8042: an answer of the keyboard has room, whatever was not read") {
    Rig rig;
    REQUIRE(rig.chip.send_ctrl_alt_del());
    for (int i = 0; i < 10; ++i) {
        rig.data(0xf2);
        if (i > 0) CHECK(rig.all() == Bytes{0xfa, 0xab, 0x83});
        if (i == 0) CHECK(rig.all().size() == 14);
    }
    REQUIRE(rig.chip.send_ctrl_alt_del());
    for (int i = 0; i < 6; ++i) rig.data(0xee);
    rig.data(0xff);
    CHECK(rig.all() == Bytes{0xee, 0xfa, 0xaa});
}

TEST_CASE("i8042: both ways to reset") {
    for (const bool by_port : {false, true}) {
        Rig rig;
        if (by_port) {
            rig.command(0xd1);
            rig.data(0x02);
        } else {
            rig.command(0xfe);
        }
        REQUIRE(rig.loop->turn(1'000'000'000));
        REQUIRE(rig.stopped);
        CHECK(rig.stopped->code == ExitCode::kOk);
        CHECK(rig.chip.counters().reset_count == 1);
    }
}
