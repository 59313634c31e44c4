// SPDX-License-Identifier: Apache-2.0
#include "vmm/mmds/port.h"

#include <linux/if_ether.h>
#include <netinet/in.h>

#include <cstring>

namespace wisp::mmds {

namespace {

constexpr uint64_t kNsPerMs = 1'000'000;

// Where a frame names the address that it is for (RFC 826, RFC 791).
constexpr size_t kTypeOffset = 2 * ETH_ALEN;
constexpr size_t kArpTarget = ETH_HLEN + 24;
constexpr size_t kIpv4Destination = ETH_HLEN + 16;

}  // namespace

bool Port::wants(std::span<const std::byte> start) const {
    const auto names_us = [&](size_t offset) {
        return start.size() >= offset + address_.size() &&
               memcmp(&start[offset], address_.data(), address_.size()) == 0;
    };
    const auto type = static_cast<uint16_t>(static_cast<unsigned>(start[kTypeOffset]) << 8 |
                                            static_cast<unsigned>(start[kTypeOffset + 1]));
    return (type == ETH_P_ARP && names_us(kArpTarget)) || (type == ETH_P_IP && names_us(kIpv4Destination));
}

void Port::receive(std::span<const std::byte> frame, uint64_t now_ns) {
    // What is for our address and makes no sense is dropped: it is nobody else's.
    endpoint_.receive({reinterpret_cast<const uint8_t*>(frame.data()), frame.size()}, now_ns / kNsPerMs);
}

size_t Port::transmit(std::span<std::byte> frame, uint64_t now_ns) {
    return endpoint_.transmit({reinterpret_cast<uint8_t*>(frame.data()), frame.size()}, now_ns / kNsPerMs);
}

uint64_t Port::deadline_ns() const {
    const uint64_t deadline_ms = endpoint_.deadline_ms();
    return deadline_ms > UINT64_MAX / kNsPerMs ? UINT64_MAX : deadline_ms * kNsPerMs;
}

}  // namespace wisp::mmds
