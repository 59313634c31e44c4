// SPDX-License-Identifier: Apache-2.0
//
// Port: the metadata service as a network interface sees it: frames for its address are answered, the others are left
// to the tap.
//
// Threads: the loop's. Frames come from the guest.
#pragma once

#include "virtio/net/device.h"
#include "vmm/mmds/tcp_endpoint.h"

namespace wisp::mmds {

class Port final : public virtio::FrameResponder {
public:
    /// `service` must outlive it.
    Port(Service& service, config::Ipv4Address address) : address_(address), endpoint_(service, address) {}

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
    const config::Ipv4Address address_;
    TcpEndpoint endpoint_;
};

}  // namespace wisp::mmds
