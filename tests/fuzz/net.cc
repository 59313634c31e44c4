// SPDX-License-Identifier: Apache-2.0
//
// A network interface with the metadata service behind it: a script of a guest that sends frames and posts buffers,
// right and wrong ones, of a tap that fills, fails and receives, and of resets and pauses in between; perhaps with a
// second thread that changes the rings meanwhile. What reaches the tap has a header that was checked, and is never for
// the metadata service.
#include "virtio/net/device.h"

#include "tests/fuzz/device_script.h"
#include "tests/support/fake_tap.h"
#include "vmm/config/json.h"
#include "vmm/mmds/port.h"

using namespace wisp;
using namespace wisp::virtio;

namespace {

constexpr uint64_t kSent = 0x10000, kSentSlots = 4, kSlot = 0x11000, kBuffers = 0x80000;
constexpr size_t kMostWaiting = 64;

enum Op : uint8_t { kSend, kPost, kArrive, kAnyChain, kPoke, kRoom, kReset, kPause, kTurn, kFault, kOps };

class Script final : public fuzz::DeviceScript {
public:
    Script(const GuestMemory& memory, fuzz::Input input) : DeviceScript(memory, input, 2) {
        const auto flags = input_.take<uint8_t>();
        NetConfig config;
        config.id = "fuzz";
        config.tap = "fuzz";
        if (flags & 1) {
            CHECK(store_.put(*config::parse_json_strict(R"({"latest":{"meta-data":{"ami":"x"}}})")));
            service_.configure({});
            auto port = std::make_unique<mmds::Port>(loop(), service_, mmds::kMmdsAddress);
            port_ = port.get();
            config.responder = std::move(port);
        }
        if (flags & 2) config.mac = NetConfig::MacAddress{6, 1, 2, 3, 4, 5};
        if (flags & 4) config.mtu = 1500;
        if (flags & 8) config.send_limiter.bandwidth = TokenBucketConfig{2000, 0, 1};
        if (flags & 16) config.receive_limiter.ops = TokenBucketConfig{3, 1, 1};
        auto tap = std::make_unique<test::FakeTap>();
        tap_ = tap.get();
        tap_->uso = flags & 32;
        net_ = *Net::create(loop(), std::move(config), std::move(tap));
        activate(*net_, kTransport | net_->features());
        if (flags & 64) start_race();
    }
    ~Script() {
        stop_race();
        reset(*net_);
    }

    void run() {
        while (!input_.empty()) {
            step(static_cast<Op>(input_.take<uint8_t>() % kOps));
            look_at_sent();
        }
        turn();
        look_at_sent();
        if (!racing()) return;
        while (tap_->waiting.size() < kMostWaiting) tap_->push(std::string(100 * tap_->waiting.size(), 'r'));
        race_on(*net_, kTransport | net_->features());
        look_at_sent();
    }

private:
    void step(Op op) {
        switch (op) {
            case kSend:
                return send();
            case kPost:
                return post();
            case kArrive:
                return arrive();
            case kAnyChain: {
                const unsigned queue = input_.take<uint8_t>() % 2;
                drivers_[queue].submit_any(input_);
                return kick(*net_, queue);
            }
            case kPoke:
                poke();
                return kick(*net_, input_.take<uint8_t>() % 2);
            case kRoom:
                tap_->room = input_.take<uint8_t>();
                return tap_->tell();
            case kReset:
                reset(*net_);
                return activate(*net_, kTransport | (input_.take<uint64_t>() & net_->features()));
            case kPause:
                return pause_or_resume(*net_);
            case kTurn:
                return turn();
            case kFault:
                tap_->send_error = input_.take<uint8_t>() & 1 ? EINVAL : 0;
                tap_->receive_error = input_.take<uint8_t>() & 1 ? EIO : 0;
                return;
            case kOps:
                break;
        }
    }

    // A virtio header, then the frame, in pieces of any size.
    void send() {
        const auto cut = input_.take<uint16_t>();
        const auto content = input_.bytes(input_.take<uint16_t>());
        const uint64_t size = content.size() + input_.take<uint8_t>() * 255u;  // more of what was there before
        const uint64_t at = kSent + next_slot_++ % kSentSlots * kSlot;
        if (!content.empty()) memcpy(host_ + at, content.data(), content.size());
        drivers_[Net::kSendQueue].submit(at, std::min(size, kSlot), cut, false);
        kick(*net_, Net::kSendQueue);
    }

    void post() {
        const auto count = input_.take<uint8_t>() % 32u;
        const auto size = input_.take<uint16_t>(), cut = input_.take<uint16_t>();
        for (unsigned i = 0; i < count; ++i)
            drivers_[Net::kReceiveQueue].submit(kBuffers + next_buffer_++ % 6 * kSlot, size, cut, true);
        kick(*net_, Net::kReceiveQueue);
    }

    void arrive() {
        const auto content = input_.bytes(input_.take<uint16_t>());
        std::string frame(content.begin(), content.end());
        frame.resize(frame.size() + input_.take<uint8_t>() * 255u);
        if (tap_->waiting.size() < kMostWaiting) tap_->push(std::move(frame));
    }

    void look_at_sent() {
        for (const std::string& sent : tap_->sent) {
            NetHeader header;
            CHECK(sent.size() >= sizeof header + ETH_HLEN && sent.size() <= limits::kNetMaxFrame);
            memcpy(&header, sent.data(), sizeof header);
            CHECK((header.flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM) == 0);
            const std::span frame = std::as_bytes(std::span(sent)).subspan(sizeof header);
            if (header.flags) CHECK(header.csum_start + header.csum_offset + 2u <= frame.size());
            if (header.gso_type != VIRTIO_NET_HDR_GSO_NONE) CHECK(header.gso_size > 0);
            CHECK(header.hdr_len <= frame.size());
            if (port_) CHECK(!port_->wants(frame.first(std::min(frame.size(), FrameResponder::kStart))));
        }
        tap_->sent.clear();
    }

    mmds::DataStore store_{10'000};
    mmds::Service service_{store_, mmds::TokenAuthority({1, 2})};
    mmds::Port* port_ = nullptr;
    test::FakeTap* tap_ = nullptr;
    std::unique_ptr<Net> net_;
    uint64_t next_slot_ = 0, next_buffer_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    return fuzz::DeviceScript::run<Script>(data, size);
}
