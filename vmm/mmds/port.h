// SPDX-License-Identifier: Apache-2.0
//
// Port: the metadata service as a network interface sees it. It takes the frames for the service's address; all others
// go to the tap. The loop's turn budget pays for each answer, so that a guest that asks again and again delays only
// itself.
//
// Threads: the loop's; counters() may be read by any thread. Frames come from the guest.
#pragma once

#include "base/loop.h"
#include "virtio/net/device.h"
#include "vmm/mmds/tcp_endpoint.h"

namespace wisp::mmds {

class Port final : public virtio::FrameResponder {
public:
    /// `loop` and `service` must outlive it.
    Port(Loop& loop, Service& service, config::Ipv4Address address)
        : loop_(loop), address_(address), endpoint_(service, address) {}

    bool wants(std::span<const std::byte> start) const override;
    void receive(std::span<const std::byte> frame, uint64_t now_ns) override;
    size_t transmit(std::span<std::byte> frame, uint64_t now_ns) override;
    uint64_t deadline_ns() const override;

    /// See TcpEndpoint::save().
    void save(RecordWriter& writer) const { endpoint_.save(writer); }
    Result<void> restore(RecordReader& reader, uint64_t now_ns) {
        return endpoint_.restore(reader, now_ns / 1'000'000);
    }

    const TcpEndpoint::Counters& counters() const { return endpoint_.counters(); }

private:
    bool may_transmit();

    Loop& loop_;
    const config::Ipv4Address address_;
    TcpEndpoint endpoint_;
    uint64_t turn_ = 0;             // the loop's turn that answered_ belongs to
    bool answered_ = false;         // an answer was made in this turn
    uint64_t paused_until_ns_ = 0;  // transmit() had nothing to say, or no budget
};

}  // namespace wisp::mmds
