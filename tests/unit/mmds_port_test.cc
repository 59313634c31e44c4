// SPDX-License-Identifier: Apache-2.0
//
// The metadata service beside other work on a loop: what its answers cost in a turn.
#include "vmm/mmds/port.h"

#include <catch2/catch.hpp>

#include "vmm/config/json.h"

using namespace wisp;
using namespace wisp::mmds;

namespace {

void put16(std::vector<std::byte>& frame, uint32_t value) {
    frame.push_back(static_cast<std::byte>(value >> 8));
    frame.push_back(static_cast<std::byte>(value));
}

/// A guest's segment to the service.
std::vector<std::byte> segment(uint16_t port, uint32_t sequence, uint32_t acknowledged, uint8_t flags,
                               std::string_view text = "") {
    std::vector<std::byte> frame(14);
    frame[12] = std::byte{8};
    put16(frame, 0x4500);
    put16(frame, static_cast<uint32_t>(40 + text.size()));
    for (const uint32_t word : {0u, 0u, 0x4006u, 0u, 0x0a00u, 2u, 0xa9feu, 0xa9feu}) put16(frame, word);
    put16(frame, port);
    put16(frame, 80);
    for (const uint32_t word : {sequence >> 16, sequence & 0xffff, acknowledged >> 16, acknowledged & 0xffff})
        put16(frame, word);
    put16(frame, 0x5000u | flags);
    for (const uint32_t word : {60000u, 0u, 0u}) put16(frame, word);
    for (const char c : text) frame.push_back(static_cast<std::byte>(c));
    return frame;
}

uint32_t sequence_of(std::span<const std::byte> frame) {
    uint32_t value = 0;
    for (size_t i = 38; i < 42; ++i) value = value << 8 | static_cast<uint32_t>(frame[i]);
    return value;
}

}  // namespace

TEST_CASE("answers stop where the turn has no budget left, and continue in the next turn") {
    constexpr size_t kSize = 1 << 20;
    constexpr unsigned kGuests = 20;
    auto loop = *Loop::create(Loop::Backend::kEpoll);
    DataStore data(2 * kSize);
    REQUIRE(data.put(*config::parse_json_strict("{\"a\":\"" + std::string(kSize, 'x') + "\"}")));
    Service service(data, TokenAuthority({1, 2}));
    Port port(*loop, service, kMmdsAddress);
    REQUIRE(loop->turn(0));
    std::vector<std::byte> frame(limits::kNetMaxFrame);
    uint64_t now_ns = 1'000'000'000;
    for (uint16_t i = 0; i < kGuests; ++i) {
        port.receive(segment(i, 0, 0, tcp::kSyn), now_ns);
        REQUIRE(port.transmit(frame, now_ns) > 0);
        const std::string_view request = "GET /a HTTP/1.1\r\n\r\n";
        port.receive(segment(i, 1, sequence_of(frame) + 1, tcp::kAck, request), now_ns);
    }
    // Each guest takes the first frame of its answer: 20 MiB of answers in all, against a budget of 8 MiB a turn.
    unsigned answered = 0, turns = 0;
    while (answered < kGuests) {
        REQUIRE(++turns < 100);
        const unsigned before = answered;
        while (answered < kGuests && port.transmit(frame, now_ns) > 60) ++answered;
        CHECK(answered > before);  // one at least
        CHECK(answered - before <= limits::kTurnBytes / kSize);
        if (answered < kGuests) CHECK(port.deadline_ns() > now_ns);
        REQUIRE(loop->turn(0));
        now_ns = port.deadline_ns();
    }
    CHECK(turns >= 3);
}
