// SPDX-License-Identifier: Apache-2.0
#include "virtio/vsock/connection.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <random>

#include "base/limits.h"

using namespace wisp;
using namespace wisp::virtio;
using Phase = VsockConnection::Phase;
using Action = VsockConnection::HostAction;
using Timeout = VsockConnection::Timeout;

namespace {

constexpr uint32_t kGrant = 64 << 10;

VsockPacket packet(VsockOp op, uint32_t length = 0, uint32_t flags = 0, uint32_t fwd_cnt = 0,
                   uint32_t buf_alloc = 10000) {
    return {{1, 2}, op, length, flags, buf_alloc, fwd_cnt};
}

// Sends what is due, which must be `op`.
uint32_t sent(VsockConnection& connection, VsockOp op) {
    const auto due = connection.due_packet();
    REQUIRE(due);
    REQUIRE(due->op == op);
    connection.on_sent(*due);
    return due->flags;
}

VsockConnection open_by_guest() {
    auto connection = VsockConnection::from_guest(packet(VsockOp::kRequest), kGrant);
    CHECK(connection.phase() == Phase::kConnecting);
    CHECK_FALSE(connection.due_packet());
    connection.on_host_connected();
    sent(connection, VsockOp::kResponse);
    CHECK(connection.phase() == Phase::kOpen);
    CHECK_FALSE(connection.due_packet());
    return connection;
}

}  // namespace

TEST_CASE("vsock connection: from the host, opened by the guest's RESPONSE") {
    auto connection = VsockConnection::from_host(kGrant);
    CHECK(connection.timeout() == Timeout::kConnect);
    CHECK(connection.may_send() == 0);
    sent(connection, VsockOp::kRequest);
    CHECK(connection.take_host_action() == Action::kNone);
    CHECK_FALSE(connection.on_packet(packet(VsockOp::kResponse)).fault);
    CHECK(connection.take_host_action() == Action::kSayOk);
    CHECK(connection.take_host_action() == Action::kNone);
    CHECK(connection.may_send() == 10000);
    CHECK(connection.timeout() == Timeout::kNone);
}

TEST_CASE("vsock connection: refused by the guest, by the host, or by time") {
    auto refused = VsockConnection::from_host(kGrant);
    sent(refused, VsockOp::kRequest);
    refused.on_packet(packet(VsockOp::kReset));
    CHECK(refused.phase() == Phase::kGone);
    CHECK(refused.take_host_action() == Action::kClose);

    auto missing = VsockConnection::from_guest(packet(VsockOp::kRequest), kGrant);
    missing.on_host_refused();
    CHECK(missing.take_host_action() == Action::kClose);
    sent(missing, VsockOp::kReset);
    CHECK(missing.phase() == Phase::kGone);

    auto late = VsockConnection::from_host(kGrant);
    sent(late, VsockOp::kRequest);
    late.on_timeout();
    CHECK(late.take_host_action() == Action::kClose);
    sent(late, VsockOp::kReset);
    CHECK(late.phase() == Phase::kGone);

    auto never_asked = VsockConnection::from_host(kGrant);
    never_asked.on_timeout();
    CHECK_FALSE(never_asked.due_packet());
    CHECK(never_asked.phase() == Phase::kGone);
}

TEST_CASE("vsock connection: the guest's credit bounds what it is sent") {
    auto connection = open_by_guest();
    CHECK(connection.may_send() == 10000);
    connection.on_data_sent(9000);
    CHECK(connection.may_send() == 1000);
    connection.on_data_sent(1000);
    CHECK(connection.may_send() == 0);
    CHECK(connection.lacks_credit());
    connection.request_credit();
    connection.request_credit();
    sent(connection, VsockOp::kCreditRequest);
    connection.request_credit();
    CHECK_FALSE(connection.due_packet());  // asked once
    connection.on_packet(packet(VsockOp::kCreditUpdate, 0, 0, 4000));
    CHECK(connection.may_send() == 4000);
    connection.on_packet(packet(VsockOp::kCreditUpdate, 0, 0, 3000));  // an older count: nothing is taken back
    CHECK(connection.may_send() == 4000);
    connection.on_packet(packet(VsockOp::kCreditUpdate, 0, 0, 4000, 100));  // a smaller buffer than what is in flight
    CHECK(connection.may_send() == 0);
    CHECK(connection.on_packet(packet(VsockOp::kCreditUpdate, 0, 0, 10001)).fault);
    sent(connection, VsockOp::kReset);
    CHECK(connection.phase() == Phase::kGone);
}

TEST_CASE("vsock connection: credit that we grant is kept, told in time and in batches") {
    auto connection = open_by_guest();
    const auto data = [](uint32_t length) { return packet(VsockOp::kData, length, 0, 0, kGrant); };
    CHECK(connection.on_packet(data(kGrant / 4)).take_data);
    connection.on_forwarded(kGrant / 4);
    CHECK_FALSE(connection.due_packet());
    CHECK(connection.on_packet(data(kGrant / 4)).take_data);
    CHECK_FALSE(connection.due_packet());
    connection.on_forwarded(kGrant / 4);
    CHECK(connection.fwd_cnt() == kGrant / 2);
    sent(connection, VsockOp::kCreditUpdate);
    CHECK_FALSE(connection.due_packet());
    CHECK(connection.on_packet(data(kGrant)).take_data);
    CHECK(connection.waiting() == kGrant);
    CHECK(connection.on_packet(data(1)).fault);
}

TEST_CASE("vsock connection: a guest that sends no further ahead than it grants itself is told in time") {
    constexpr uint32_t kOwn = kGrant / 8;
    auto connection = open_by_guest();
    CHECK(connection.on_packet(packet(VsockOp::kData, kOwn / 4, 0, 0, kOwn)).take_data);
    connection.on_forwarded(kOwn / 4);
    CHECK_FALSE(connection.due_packet());
    CHECK(connection.on_packet(packet(VsockOp::kData, kOwn / 4, 0, 0, kOwn)).take_data);
    connection.on_forwarded(kOwn / 4);
    sent(connection, VsockOp::kCreditUpdate);
    SECTION("also if it grants itself less only afterwards") {
        CHECK(connection.on_packet(packet(VsockOp::kData, kOwn / 4, 0, 0, kOwn)).take_data);
        connection.on_forwarded(kOwn / 4);
        CHECK_FALSE(connection.due_packet());
        connection.on_packet(packet(VsockOp::kCreditUpdate, 0, 0, 0, kOwn / 2));
        sent(connection, VsockOp::kCreditUpdate);
        CHECK_FALSE(connection.due_packet());
    }
    SECTION("even if that is nothing") {
        CHECK(connection.on_packet(packet(VsockOp::kData, 1, 0, 0, 0)).take_data);
        CHECK_FALSE(connection.due_packet());
        connection.on_forwarded(1);
        sent(connection, VsockOp::kCreditUpdate);
    }
}

TEST_CASE("vsock connection: half closes, each side first") {
    SECTION("guest") {
        auto connection = open_by_guest();
        connection.on_packet(packet(VsockOp::kData, 10));
        connection.on_packet(packet(VsockOp::kShutdown, 0, kVsockNoSend));
        CHECK(connection.take_host_action() == Action::kNone);  // not before its data has gone
        connection.on_forwarded(10);
        CHECK(connection.take_host_action() == Action::kShutdownWrite);
        CHECK(connection.take_host_action() == Action::kNone);
        CHECK(connection.may_send() > 0);
        CHECK_FALSE(connection.due_packet());
        connection.on_host_shut_send();
        CHECK(sent(connection, VsockOp::kShutdown) == kVsockBoth);
        CHECK(connection.timeout() == Timeout::kShutdown);
        connection.on_packet(packet(VsockOp::kReset));
        CHECK(connection.take_host_action() == Action::kClose);
        CHECK(connection.phase() == Phase::kGone);
    }
    SECTION("host") {
        auto connection = open_by_guest();
        connection.on_host_shut_send();
        CHECK(sent(connection, VsockOp::kShutdown) == kVsockNoSend);
        CHECK(connection.may_send() == 0);
        CHECK(connection.on_packet(packet(VsockOp::kData, 10)).take_data);
        connection.on_forwarded(10);
        connection.on_packet(packet(VsockOp::kShutdown, 0, kVsockBoth));
        CHECK(connection.take_host_action() == Action::kClose);
        sent(connection, VsockOp::kReset);
        CHECK(connection.phase() == Phase::kGone);
    }
    SECTION("the guest will not receive") {
        auto connection = open_by_guest();
        connection.on_packet(packet(VsockOp::kShutdown, 0, kVsockNoReceive));
        CHECK(connection.take_host_action() == Action::kShutdownRead);
        CHECK(connection.may_send() == 0);
        CHECK(connection.on_packet(packet(VsockOp::kData, 10)).take_data);
        CHECK(connection.on_packet(packet(VsockOp::kShutdown, 0, kVsockNoSend)).fault == nullptr);
        CHECK(connection.phase() == Phase::kEnding);
        sent(connection, VsockOp::kReset);
        CHECK(connection.phase() == Phase::kEnding);  // ten bytes are on their way
        connection.on_forwarded(10);
        CHECK(connection.take_host_action() == Action::kClose);
        CHECK(connection.phase() == Phase::kGone);
    }
    SECTION("the host will not receive") {
        auto connection = open_by_guest();
        connection.on_packet(packet(VsockOp::kData, 10));
        connection.on_host_shut_receive();
        CHECK(connection.waiting() == 0);
        CHECK(sent(connection, VsockOp::kShutdown) == kVsockNoReceive);
        CHECK_FALSE(connection.on_packet(packet(VsockOp::kData, 10)).take_data);
        CHECK(connection.fwd_cnt() == 20);
        connection.on_host_shut_send();
        CHECK(sent(connection, VsockOp::kShutdown) == kVsockBoth);
        connection.on_timeout();
        sent(connection, VsockOp::kReset);
        CHECK(connection.phase() == Phase::kGone);
    }
}

TEST_CASE("vsock connection: what does not fit its state is a fault, or nothing once it is over") {
    for (const VsockOp op : {VsockOp::kRequest, VsockOp::kResponse}) {
        auto connection = open_by_guest();
        CHECK(connection.on_packet(packet(op)).fault);
        CHECK(connection.phase() == Phase::kEnding);
        for (uint16_t any = 1; any <= 7; ++any)
            if (any != VIRTIO_VSOCK_OP_RST) CHECK_FALSE(connection.on_packet(packet(static_cast<VsockOp>(any))).fault);
        sent(connection, VsockOp::kReset);
    }
    auto early = VsockConnection::from_guest(packet(VsockOp::kRequest), kGrant);
    CHECK(early.on_packet(packet(VsockOp::kData, 1)).fault);
    auto after = open_by_guest();
    after.on_packet(packet(VsockOp::kShutdown, 0, kVsockNoSend));
    CHECK(after.on_packet(packet(VsockOp::kData, 1)).fault);
    auto asked = VsockConnection::from_host(kGrant);
    CHECK(asked.on_packet(packet(VsockOp::kResponse)).fault);  // to a REQUEST that was not sent
}

// ---- model ----

namespace {

// Plays both sides of one connection at random, with a tally of its own of what must be true.
struct Model {
    explicit Model(uint64_t seed, bool hostile_guest) : random(seed), hostile(hostile_guest) {
        from_host = chance(2);
        if (from_host) {
            connection.emplace(VsockConnection::from_host(kGrant));
        } else {
            connection.emplace(VsockConnection::from_guest(packet(VsockOp::kRequest, 0, 0, 0, alloc), kGrant));
        }
    }

    bool chance(unsigned one_in) { return random() % one_in == 0; }
    uint32_t below(uint32_t bound) { return bound ? static_cast<uint32_t>(random() % bound) : 0; }

    void give(VsockOp op, uint32_t length = 0, uint32_t flags = 0) {
        const auto verdict = connection->on_packet(packet(op, length, flags, guest_took, alloc));
        if (!hostile) REQUIRE_FALSE(verdict.fault);
        if (verdict.take_data) REQUIRE(connection->waiting() >= length);
        if (op == VsockOp::kData && !verdict.fault) guest_sent += length;
    }

    void act_as_guest() {
        if (hostile && chance(4)) {
            give(static_cast<VsockOp>(1 + below(7)), chance(2) ? below(200000) : 0, below(4));
            return;
        }
        if (guest_over) return;
        switch (below(8)) {
            case 0:
                if (request_seen && !open) open = true, give(VsockOp::kResponse);
                break;
            case 1:
            case 2: {  // never more than its credit, by its own count
                const uint32_t credit = kGrant - (static_cast<uint32_t>(guest_sent) - told_forwarded);
                if (open && !(guest_said & kVsockNoSend)) give(VsockOp::kData, std::min(below(70000), credit));
                break;
            }
            case 3:
                if (open && chance(4)) {
                    guest_said |= 1 + below(3);
                    give(VsockOp::kShutdown, 0, guest_said);
                }
                break;
            case 4:
                guest_took += below(guest_got - guest_took + 1);
                if (open) give(VsockOp::kCreditUpdate);
                break;
            case 5:
                if (open) give(VsockOp::kCreditRequest);
                break;
            case 6:
                if (chance(10) || (host_said & kVsockBoth) == kVsockBoth) guest_over = true, give(VsockOp::kReset);
                break;
            case 7:
                if (chance(20)) alloc = below(100000);
                break;
        }
    }

    void act_as_device() {
        switch (below(8)) {
            case 0:
            case 1:
                if (const auto due = connection->due_packet()) {
                    REQUIRE_FALSE(reset_sent);
                    connection->on_sent(*due);
                    told_forwarded = connection->fwd_cnt();
                    if (due->op == VsockOp::kRequest) {
                        REQUIRE(from_host);
                        request_seen = true;
                    }
                    if (due->op == VsockOp::kResponse) {
                        REQUIRE_FALSE(from_host);
                        open = true;
                    }
                    if (due->op == VsockOp::kReset) reset_sent = true;
                    if (due->op == VsockOp::kShutdown) {
                        REQUIRE((due->flags & ~host_said) != 0);  // never twice the same
                        REQUIRE((host_said & ~due->flags) == 0);
                        host_said = due->flags;
                    }
                }
                break;
            case 2:
                if (const uint32_t may = connection->may_send()) {
                    REQUIRE_FALSE(closed);
                    REQUIRE_FALSE(host_said & kVsockNoSend);
                    REQUIRE_FALSE(connection->lacks_credit());
                    if (!hostile) REQUIRE_FALSE(guest_said & kVsockNoReceive);
                    const uint32_t size = 1 + below(may);
                    connection->on_data_sent(size);
                    guest_got += size;
                    told_forwarded = connection->fwd_cnt();
                } else if (connection->lacks_credit()) {
                    connection->request_credit();
                }
                break;
            case 3:
                if (const uint32_t size = below(connection->waiting() + 1); size > 0 && !closed) {
                    connection->on_forwarded(size);
                    forwarded += size;
                }
                break;
            case 4:
                take_actions();
                break;
            case 5:
                if (connection->wants_host_data() && chance(10)) connection->on_host_shut_send();
                break;
            case 6:
                if (connection->phase() == Phase::kOpen && !closed && chance(20)) {
                    connection->on_host_shut_receive();
                    deaf = true;
                }
                break;
            case 7:
                if (connection->phase() == Phase::kConnecting) {
                    if (chance(5))
                        connection->on_host_refused();
                    else
                        connection->on_host_connected();
                } else if (connection->timeout() != Timeout::kNone && chance(50)) {
                    timed_out = true;
                    connection->on_timeout();
                }
                break;
        }
        REQUIRE(connection->waiting() <= kGrant);
        if (connection->phase() == Phase::kGone) REQUIRE_FALSE(connection->due_packet());
    }

    void take_actions() {
        for (;;) {
            switch (connection->take_host_action()) {
                case Action::kNone:
                    return;
                case Action::kSayOk:
                    REQUIRE(from_host);
                    REQUIRE_FALSE(said_ok);
                    said_ok = true;
                    break;
                case Action::kShutdownWrite:
                    REQUIRE_FALSE(write_shut);
                    REQUIRE(connection->waiting() == 0);
                    if (!hostile) REQUIRE(forwarded == guest_sent);
                    write_shut = true;
                    break;
                case Action::kShutdownRead:
                    REQUIRE_FALSE(read_shut);
                    read_shut = true;
                    break;
                case Action::kClose:
                    REQUIRE_FALSE(closed);
                    closed = true;
                    // Nothing that the guest sent is left behind, unless nobody reads or time has passed.
                    if (!hostile && !deaf && !timed_out) REQUIRE(forwarded == guest_sent);
                    break;
            }
        }
    }

    // Whatever happened: time alone brings it to its end.
    void finish() {
        for (int i = 0; i < 20 && connection->phase() != Phase::kGone; ++i) {
            take_actions();
            if (connection->phase() == Phase::kOpen) {
                connection->on_host_shut_send();
                connection->on_host_shut_receive();
                deaf = true;
            }
            if (connection->phase() == Phase::kConnecting) connection->on_host_connected();
            while (const auto due = connection->due_packet()) connection->on_sent(*due);
            if (connection->timeout() != Timeout::kNone) {
                connection->on_timeout();
                timed_out = true;
            }
        }
        take_actions();
        REQUIRE(connection->phase() == Phase::kGone);
        REQUIRE(closed);
        REQUIRE_FALSE(connection->guest_knows());
    }

    std::mt19937_64 random;
    const bool hostile;
    std::optional<VsockConnection> connection;
    uint32_t alloc = 50000;
    bool from_host = false, request_seen = false, open = false, guest_over = false;
    bool reset_sent = false, said_ok = false, write_shut = false, read_shut = false, closed = false, deaf = false;
    bool timed_out = false;
    uint32_t guest_said = 0, host_said = 0;
    uint64_t guest_sent = 0, forwarded = 0;
    uint32_t guest_got = 0, guest_took = 0, told_forwarded = 0;
};

}  // namespace

TEST_CASE("vsock connection: random orders of events keep what is promised and always come to an end") {
    const char* given = getenv("WISP_TEST_SEED");
    const uint64_t first = given ? strtoull(given, nullptr, 10) : std::random_device()();
    const unsigned runs = given ? 1 : 4000;
    for (uint64_t seed = first; seed < first + runs; ++seed) {
        for (const bool hostile : {false, true}) {
            CAPTURE(seed, hostile);  // WISP_TEST_SEED repeats it
            Model model(seed, hostile);
            for (int step = 0; step < 300 && model.connection->phase() != Phase::kGone; ++step) {
                if (model.chance(2))
                    model.act_as_guest();
                else
                    model.act_as_device();
            }
            model.finish();
        }
    }
}
