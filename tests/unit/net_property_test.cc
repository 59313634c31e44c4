// SPDX-License-Identifier: Apache-2.0
//
// An interface between a driver and a tap that both do what a seed decides: a tap that is full, fails or has frames of
// all sizes, a driver that posts buffers of all sizes late or not at all, pauses and resets in between. What must hold
// whatever happens: a frame arrives whole, once and in order, or it is one of those that were counted as dropped; every
// chain comes back; and once the tap takes frames and the driver has buffers, everything arrives.
#include <cstdio>
#include <cstdlib>
#include <random>

#include "tests/support/net_rig.h"

using namespace wisp;
using namespace wisp::virtio;
using wisp::test::make_frame;
using wisp::test::NetRig;

namespace {

class Torture {
public:
    Torture(uint32_t seed, NetConfig config) : random_(seed), rig_(std::move(config)) {
        rig_.tap->send_fault = [this] { return pick(100) < faults_ ? (pick(2) ? EIO : ENOBUFS) : 0; };
        rig_.tap->receive_fault = [this] {
            if (pick(100) >= faults_) return 0;
            rig_.tap->tell();  // as a tap does when there is more
            return EAGAIN;
        };
    }

    void run(unsigned steps) {
        for (unsigned i = 0; i < steps; ++i) {
            step(pick(100));
            reap();
        }
        settle();
    }

private:
    uint32_t pick(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }

    void step(uint32_t dice) {
        if (dice < 25) {
            send();
        } else if (dice < 50) {
            push();
        } else if (dice < 70) {
            post();
        } else if (dice < 85) {
            rig_.turn();
        } else if (dice < 90) {
            rig_.tap->room = pick(2) ? SIZE_MAX : pick(20);
            if (rig_.tap->room) rig_.tap->tell();
        } else if (dice < 93) {
            faults_ = pick(30);
        } else if (dice < 96) {
            pause();
        } else if (dice < 97) {
            reset();
        } else {
            rig_.net->on_kick(pick(2));
        }
    }

    std::string numbered(uint32_t& next) {
        const size_t size = pick(4) ? 18 + pick(200) : 18 + pick(3000);
        std::string frame = make_frame(size, static_cast<int>(next));
        memcpy(&frame[sizeof(NetHeader) + ETH_HLEN], &next, sizeof next);
        ++next;
        return frame;
    }
    uint32_t number_of(const std::string& frame) {
        uint32_t number;
        memcpy(&number, &frame.at(sizeof(NetHeader) + ETH_HLEN), sizeof number);
        return number;
    }

    void send() {
        if (sent_unreturned_ == 0) rig_.tx.recycle();
        if (sent_unreturned_ > 40) return;
        std::string frame = numbered(next_sent_);
        const size_t cut = 1 + pick(static_cast<uint32_t>(frame.size() - 1));
        rig_.tx.chain().indirect().readable(frame.substr(0, cut)).readable(frame.substr(cut)).submit();
        ++sent_unreturned_;
        outgoing_.push_back(std::move(frame));
        if (pick(2)) rig_.kick_tx();
    }
    void push() {
        if (rig_.tap->waiting.size() > 200) return;
        incoming_.push_back(numbered(next_pushed_));
        rig_.tap->push(incoming_.back());
    }
    void post() {
        const uint32_t size = pick(10) ? 12 + pick(2000) : 12 + pick(100);
        if (posted() > 55) return;
        post_one(size);
        if (pick(2)) rig_.kick_rx();
    }
    void post_one(uint32_t size) {
        // Descriptors are taken in a ring: only one that is free may be used again.
        const uint16_t next = rig_.rx.take_descriptor();
        if (rig_.buffers[next]) return;
        const uint64_t address = 0x100000 + uint64_t{next} * 0x2000;
        rig_.rx.write_descriptor(next, address, size, 2, 0);
        rig_.rx.make_available(next);
        rig_.buffers[next] = {address, size};
    }
    size_t posted() const {
        size_t count = 0;
        for (const auto& buffer : rig_.buffers) count += buffer.has_value();
        return count;
    }

    void reap() {
        while (const auto used = rig_.tx.used()) {
            REQUIRE(used->written == 0);
            REQUIRE(sent_unreturned_ > 0);
            --sent_unreturned_;
        }
        for (; sent_checked_ < rig_.tap->sent.size(); ++sent_checked_)
            arrives(outgoing_, rig_.tap->sent[sent_checked_], skipped_out_);
        while (const auto frame = rig_.received()) arrives(incoming_, *frame, skipped_in_);
    }
    // A frame that tap takes later than others of its batch may come after them.
    void arrives(std::vector<std::string>& expected, const std::string& frame, unsigned& skipped) {
        size_t at = 0;
        while (at < expected.size() && number_of(expected[at]) != number_of(frame)) ++at;
        REQUIRE(at < expected.size());  // sent, and not arrived before
        REQUIRE(expected[at] == frame);
        skipped += static_cast<unsigned>(at);
        expected.erase(expected.begin(), expected.begin() + static_cast<ptrdiff_t>(at) + 1);
    }

    void pause() {
        rig_.pause();
        reap();
        rig_.turn();
        rig_.net->resume();
    }
    void reset() {
        reap();
        rig_.reset();
        // What was in hand is lost, and nobody counts it.
        before_ = rig_.net->counters();
        skipped_out_ = skipped_in_ = 0;
        outgoing_.clear();
        const size_t lost = incoming_.size() - rig_.tap->waiting.size();
        incoming_.erase(incoming_.begin(), incoming_.begin() + static_cast<ptrdiff_t>(lost));
        sent_unreturned_ = 0;
        rig_.buffers = {};
        rig_.activate();
    }

    void settle() {
        faults_ = 0;
        rig_.tap->room = SIZE_MAX;
        rig_.tap->tell();
        const uint64_t deadline_ns = monotonic_ns() + 5'000'000'000;
        while (sent_unreturned_ > 0 || !rig_.tap->waiting.empty() || in_hand() != 0) {
            INFO("unreturned " << sent_unreturned_ << ", waiting " << rig_.tap->waiting.size() << ", in hand "
                               << in_hand());
            REQUIRE(monotonic_ns() < deadline_ns);
            while (posted() < 60) post_one(2048);
            rig_.kick_rx();
            rig_.kick_tx();
            rig_.turn();
            reap();
        }
        // What did not arrive was counted: those that were skipped on the way, and those that are left now.
        REQUIRE(skipped_out_ + outgoing_.size() == rig_.net->counters().tx_fails - before_.tx_fails);
    }
    // Frames that the device has from the tap, neither delivered nor counted as dropped. Settling ends only at 0.
    int64_t in_hand() {
        return static_cast<int64_t>(skipped_in_ + incoming_.size() - rig_.tap->waiting.size()) -
               static_cast<int64_t>(rig_.net->counters().rx_fails - before_.rx_fails);
    }

    std::mt19937 random_;
    NetRig rig_;
    uint32_t faults_ = 10;
    uint32_t next_sent_ = 0, next_pushed_ = 0;
    size_t sent_unreturned_ = 0, sent_checked_ = 0;
    unsigned skipped_out_ = 0, skipped_in_ = 0;
    NetCounters before_;  // the present activation
    std::vector<std::string> outgoing_, incoming_;
};

}  // namespace

TEST_CASE("net: no frame is lost or repeated, whatever the tap and the driver do") {
    const char* given = getenv("WISP_TEST_SEED");
    const uint32_t seed = given ? static_cast<uint32_t>(strtoul(given, nullptr, 0)) : std::random_device{}();
    std::printf("net torture: WISP_TEST_SEED=%u\n", seed);
    for (uint32_t i = 0; i < 60; ++i) {
        INFO("seed " << seed << " + " << i);
        NetConfig config;
        if (i % 3 == 1) config.receive_limiter.ops = TokenBucketConfig{50, 0, 1};
        if (i % 3 == 2) config.send_limiter.bandwidth = TokenBucketConfig{100'000, 0, 1};
        Torture torture(seed + i, std::move(config));
        torture.run(3000);
    }
}
