// SPDX-License-Identifier: Apache-2.0
//
// The metadata service's TCP endpoint, asked by a guest that is made of frames.
#include "vmm/mmds/tcp_endpoint.h"

#include <catch2/catch.hpp>

#include <random>

#include "vmm/config/json.h"

using namespace wisp;
using namespace wisp::mmds;

namespace {

using Frame = std::vector<uint8_t>;

void put16(Frame& frame, uint32_t value) {
    frame.push_back(static_cast<uint8_t>(value >> 8));
    frame.push_back(static_cast<uint8_t>(value));
}
void put32(Frame& frame, uint32_t value) {
    put16(frame, value >> 16);
    put16(frame, value & 0xffff);
}
uint32_t get32(const Frame& frame, size_t at) {
    return static_cast<uint32_t>(frame[at]) << 24 | frame[at + 1] << 16 | frame[at + 2] << 8 | frame[at + 3];
}

/// Sum of all 16-bit words; 0xffff if the checksum among them is right.
uint16_t sum_of(const uint8_t* bytes, size_t size, uint32_t start) {
    for (size_t i = 0; i < size; ++i) start += i % 2 ? bytes[i] : static_cast<uint32_t>(bytes[i] << 8);
    while (start >> 16) start = (start & 0xffff) + (start >> 16);
    return static_cast<uint16_t>(start);
}

struct Guest {
    DataStore data{1 << 20};
    Service service{data, TokenAuthority({1, 2})};
    TcpEndpoint endpoint{service, kMmdsAddress};
    uint64_t now = 100'000;
    uint16_t port = 4000;
    uint32_t sequence = 0xfffffff0, expected = 0;  // ours wraps soon
    uint16_t window = 60000;
    std::string received;
    uint8_t last_flags = 0;
    unsigned frames = 0;

    Guest() { REQUIRE(data.put(*config::parse_json_strict(R"({"a":"hello"})"))); }

    bool send(uint8_t flags, std::string_view text = "", uint32_t skip = 0) {
        Frame frame = {6, 1, 0x23, 0x45, 0x67, 1, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0};
        const bool syn = flags & tcp::kSyn;
        const size_t header = syn ? 24 : 20;
        put16(frame, static_cast<uint32_t>(20 + header + text.size()));
        put32(frame, 0);
        frame.insert(frame.end(), {64, 6, 0, 0, 10, 0, 0, 2, 169, 254, 169, 254});
        put16(frame, port);
        put16(frame, 80);
        put32(frame, sequence + skip);
        put32(frame, expected);
        frame.push_back(static_cast<uint8_t>(header / 4 << 4));
        frame.push_back(flags);
        put16(frame, window);
        put32(frame, 0);
        if (syn) put32(frame, 0x020405b4);
        frame.insert(frame.end(), text.begin(), text.end());
        return endpoint.receive(frame, now);
    }

    /// Takes one frame of the endpoint. False if there is none.
    bool take() {
        Frame frame(TcpEndpoint::kMaxFrame);
        const size_t size = endpoint.transmit(frame, now);
        if (size == 0) return false;
        ++frames;
        frame.resize(size);
        CHECK(frame[12] == 8);
        const size_t total = static_cast<size_t>(frame[16] << 8 | frame[17]);
        CHECK(total == size - 14);
        CHECK(sum_of(&frame[14], 20, 0) == 0xffff);
        CHECK(sum_of(&frame[34], size - 34, sum_of(&frame[26], 8, static_cast<uint32_t>(6 + size - 34))) == 0xffff);
        last_flags = frame[47];
        const uint32_t at = get32(frame, 38);
        if (last_flags & tcp::kSyn) expected = at + 1;
        if (last_flags & (tcp::kSyn | tcp::kRst)) return true;
        const std::string text(frame.begin() + 34 + (frame[46] >> 4) * 4, frame.end());
        if (at == expected) {
            received += text;
            expected += static_cast<uint32_t>(text.size()) + !!(last_flags & tcp::kFin);
        }
        return true;
    }
    void take_all() {
        while (take()) {
        }
    }
    void open() {
        REQUIRE(send(tcp::kSyn));
        ++sequence;
        REQUIRE(take());
        CHECK(last_flags == (tcp::kSyn | tcp::kAck));
        send(tcp::kAck);
    }
    void say(std::string_view text) {
        send(tcp::kAck | tcp::kPsh, text);
        sequence += static_cast<uint32_t>(text.size());
    }
    void acknowledge() { send(tcp::kAck); }
};

constexpr char kGet[] = "GET /a HTTP/1.1\r\n\r\n";

}  // namespace

TEST_CASE_METHOD(Guest, "a guest asks, gets its answer, asks again and closes") {
    open();
    for (int i = 0; i < 2; ++i) {
        received.clear();
        say(kGet);
        take_all();
        CHECK(received.ends_with("\r\n\r\nhello"));
        acknowledge();
    }
    send(tcp::kFin | tcp::kAck);
    ++sequence;
    take_all();
    CHECK(last_flags & tcp::kFin);
    acknowledge();
    CHECK(endpoint.connections() == 0);
    CHECK(endpoint.deadline_ms() == UINT64_MAX);
}

TEST_CASE_METHOD(Guest, "requests that come in pieces, twice, too early, or two at a time") {
    open();
    const std::string_view text = kGet;
    say(text.substr(0, 5));
    send(tcp::kAck, text.substr(8), 3);  // early: not kept
    take_all();
    CHECK(received.empty());
    sequence -= 5;
    say(text.substr(0, 9));  // its front is known
    say(text.substr(9));
    take_all();
    CHECK(received.ends_with("hello"));
    acknowledge();
    received.clear();
    say(std::string(kGet) + kGet);
    take_all();
    acknowledge();
    take_all();
    CHECK(received.find("hello") != received.rfind("hello"));
}

TEST_CASE_METHOD(Guest, "a long answer keeps to the guest's window and segment size, and lost frames come again") {
    REQUIRE(data.put(*config::parse_json_strict("{\"a\":\"" + std::string(20000, 'x') + "\"}")));
    window = 4000;
    open();
    say(kGet);
    std::minstd_rand random(1);
    for (int round = 0; round < 200 && !received.ends_with("xx\n") && received.size() < 20000; ++round) {
        Frame lost(TcpEndpoint::kMaxFrame);
        if (random() % 4 == 0) endpoint.transmit(lost, now);
        const size_t before = received.size();
        take_all();
        CHECK(received.size() - before <= 4000);
        acknowledge();
        if (endpoint.deadline_ms() > now && endpoint.deadline_ms() != UINT64_MAX) now = endpoint.deadline_ms();
    }
    take_all();
    CHECK(received.ends_with(std::string(20000, 'x')));
}

TEST_CASE_METHOD(Guest, "a guest that does not acknowledge is given up") {
    open();
    say(kGet);
    for (int i = 0; i < 100 && endpoint.connections(); ++i) {
        take_all();
        if (endpoint.deadline_ms() == UINT64_MAX) break;
        now = std::max(now, endpoint.deadline_ms());
    }
    CHECK(endpoint.connections() == 0);
    CHECK(last_flags & tcp::kRst);
    CHECK(frames < 40);
}

TEST_CASE_METHOD(Guest, "what a guest can make us hold is bounded") {
    SECTION("connections") {
        for (int i = 0; i < 100; ++i, ++port) send(tcp::kSyn);
        CHECK(endpoint.connections() == limits::kMmdsConnections);
        now += limits::kMmdsIdle_ms;
        send(tcp::kSyn);
        CHECK(endpoint.connections() == limits::kMmdsConnections);
        CHECK(endpoint.counters().connections_destroyed == 1);
    }
    SECTION("a request without an end") {
        open();
        for (int i = 0; i < 10; ++i) say(std::string(500, 'x'));
        take_all();
        CHECK(last_flags & tcp::kRst);
        CHECK(endpoint.connections() == 0);
    }
}

TEST_CASE_METHOD(Guest, "what belongs to no connection is reset, and a reset is not") {
    CHECK(send(tcp::kAck, "x"));
    REQUIRE(take());
    CHECK(last_flags == tcp::kRst);
    CHECK(send(tcp::kRst));
    CHECK_FALSE(take());
}

TEST_CASE_METHOD(Guest, "its address is answered for, other addresses are not") {
    Frame arp = {255, 255, 255, 255, 255, 255, 2, 0,  0, 0, 0, 1, 8, 6, 0, 1, 8, 0,   6,   4,   0,
                 1,   2,   0,   0,   0,   0,   1, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 169, 254, 169, 254};
    CHECK(endpoint.receive(arp, now));
    Frame reply(TcpEndpoint::kMaxFrame);
    REQUIRE(endpoint.transmit(reply, now) == 42);
    CHECK(std::equal(kMmdsMac.begin(), kMmdsMac.end(), reply.begin() + 22));
    CHECK(reply[21] == 2);
    arp.back() = 253;
    CHECK_FALSE(endpoint.receive(arp, now));
    CHECK_FALSE(endpoint.receive(Frame(60), now));
    CHECK_FALSE(endpoint.receive({}, now));
}

TEST_CASE_METHOD(Guest, "no frame breaks it") {
    std::minstd_rand random(7);
    open();
    for (int i = 0; i < 20000; ++i) {
        Frame frame = {6,  1, 0x23, 0x45, 0x67, 1,  2, 0, 0, 0,  0, 1, 8, 0,   0x45, 0,   0,
                       40, 0, 0,    0,    0,    64, 6, 0, 0, 10, 0, 0, 2, 169, 254,  169, 254};
        for (int j = random() % 60; j > 0; --j) frame.push_back(static_cast<uint8_t>(random()));
        if (frame.size() > 38 && random() % 2)
            frame[36] = 0, frame[37] = 80, frame[34] = port >> 8, frame[35] = port & 255;
        if (frame.size() > 47)
            frame[46] = static_cast<uint8_t>((random() % 16) << 4), frame[17] = static_cast<uint8_t>(frame.size() - 14);
        for (int j = random() % 3; j > 0; --j)
            frame[12 + random() % (frame.size() - 12)] = static_cast<uint8_t>(random());
        endpoint.receive(frame, now);
        Frame out(TcpEndpoint::kMaxFrame);
        if (random() % 3 == 0)
            for (int j = 0; j < 100 && endpoint.transmit(out, now); ++j) {
            }
        now += random() % 500;
        REQUIRE(endpoint.connections() <= limits::kMmdsConnections);
    }
}

TEST_CASE_METHOD(Guest, "an acknowledgement of what was never sent changes nothing") {
    REQUIRE(data.put(*config::parse_json_strict("{\"a\":\"" + std::string(20000, 'x') + "\"}")));
    open();
    say(kGet);
    REQUIRE(take());
    const uint64_t made = endpoint.answer_bytes();
    const uint32_t true_expected = expected;
    // All of the answer, of which one segment was sent; and then the next request, again and again.
    for (int i = 0; i < 256; ++i) {
        expected = true_expected + 18'700;
        say(kGet);
        Frame frame(TcpEndpoint::kMaxFrame);
        endpoint.transmit(frame, now);
    }
    CHECK(endpoint.answer_bytes() == made);
    // The sequence numbers of the guest's data were never taken.
    sequence -= 256 * static_cast<uint32_t>(sizeof kGet - 1);
    expected = true_expected;
    for (int i = 0; i < 100 && received.size() < 20000; ++i) {
        take_all();
        acknowledge();
        if (endpoint.deadline_ms() > now && endpoint.deadline_ms() != UINT64_MAX) now = endpoint.deadline_ms();
    }
    CHECK(received.ends_with(std::string(20000, 'x')));
}

TEST_CASE_METHOD(Guest, "an acknowledgement of what was sent counts, even after a retransmission has begun") {
    open();
    say(kGet);
    take_all();
    now = endpoint.deadline_ms();
    // The timer runs out, but the guest's acknowledgement comes before anything is sent again.
    acknowledge();
    CHECK(endpoint.deadline_ms() == UINT64_MAX);
    say(kGet);
    take_all();
    CHECK(received.find("hello") != received.rfind("hello"));
}

TEST_CASE_METHOD(Guest, "a SYN and a wild acknowledgement do not stop the SYN from being sent again") {
    REQUIRE(send(tcp::kSyn));
    ++sequence;
    const auto wild = [&] {
        const uint32_t right = expected;
        expected = right + 1000;
        send(tcp::kAck);
        expected = right;
    };
    wild();  // before our SYN was sent
    REQUIRE(take());
    CHECK(last_flags == tcp::kRst);
    REQUIRE(take());
    CHECK(last_flags == (tcp::kSyn | tcp::kAck));
    wild();
    REQUIRE(take());
    CHECK(last_flags == tcp::kRst);
    CHECK_FALSE(take());
    for (int i = 0; i < 3; ++i) {
        REQUIRE(endpoint.deadline_ms() > now);
        REQUIRE(endpoint.deadline_ms() != UINT64_MAX);
        now = endpoint.deadline_ms();
        wild();
        REQUIRE(take());
        CHECK(last_flags == tcp::kRst);
        REQUIRE(take());
        CHECK(last_flags == (tcp::kSyn | tcp::kAck));
    }
    send(tcp::kAck);
    say(kGet);
    take_all();
    CHECK(received.ends_with("hello"));
}

TEST_CASE_METHOD(Guest, "frames of the guest make no answers: each call for a frame makes one at most") {
    for (int i = 0; i < 5; ++i, ++port, sequence = 100) {
        open();
        say(kGet);
    }
    CHECK(endpoint.answer_bytes() == 0);
    uint64_t made = 0;
    for (int i = 0; i < 5; ++i) {
        REQUIRE(endpoint.deadline_ms() <= now);
        Frame frame(TcpEndpoint::kMaxFrame);
        REQUIRE(endpoint.transmit(frame, now) > 0);
        const uint64_t more = endpoint.answer_bytes() - made;
        CHECK(more < 200);
        made += more;
    }
    CHECK(made > 0);
}

TEST_CASE_METHOD(Guest, "a guest with a closed window gets one answer made, and then its bytes one by one") {
    window = 0;
    open();
    say(kGet);
    Frame frame(TcpEndpoint::kMaxFrame);
    take_all();
    const uint64_t made = endpoint.answer_bytes();
    CHECK(made > 0);
    CHECK(received.empty());
    REQUIRE(endpoint.deadline_ms() != UINT64_MAX);
    now = std::max(now, endpoint.deadline_ms());
    take_all();
    CHECK(received.size() == 1);
    CHECK(endpoint.answer_bytes() == made);
    window = 60000;
    acknowledge();
    take_all();
    CHECK(received.ends_with("hello"));
}

TEST_CASE_METHOD(Guest, "what is no request gets an answer, and the end") {
    open();
    say("nonsense\r\n");
    take_all();
    CHECK(received.starts_with("HTTP/1.1 400 \r\n"));
    CHECK(last_flags & tcp::kFin);
    acknowledge();
    CHECK(endpoint.connections() == 0);
}
