// SPDX-License-Identifier: Apache-2.0
#include "vmm/mmds/port.h"

#include <linux/if_ether.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <utility>

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
    paused_until_ns_ = 0;
    // A frame for the service's address that makes no sense is dropped: the tap must not see it.
    endpoint_.receive({reinterpret_cast<const uint8_t*>(frame.data()), frame.size()}, now_ns / kNsPerMs);
}

/// The first answer of a turn is always made; further ones where the turn has budget left.
bool Port::may_transmit() {
    if (std::exchange(turn_, loop_.turn_number()) != loop_.turn_number()) answered_ = false;
    return !answered_ || loop_.budget().left();
}

size_t Port::transmit(std::span<std::byte> frame, uint64_t now_ns) {
    size_t size = 0;
    if (may_transmit()) {
        const uint64_t before = endpoint_.answer_bytes();
        size = endpoint_.transmit({reinterpret_cast<uint8_t*>(frame.data()), frame.size()}, now_ns / kNsPerMs);
        if (const uint64_t made = endpoint_.answer_bytes() - before) {
            loop_.budget().take(made);
            answered_ = true;
        }
    }
    if (size == 0) paused_until_ns_ = now_ns + limits::kMmdsPause_ns;
    return size;
}

uint64_t Port::deadline_ns() const {
    const uint64_t deadline_ms = endpoint_.deadline_ms();
    if (deadline_ms > UINT64_MAX / kNsPerMs) return UINT64_MAX;
    return std::max(deadline_ms * kNsPerMs, paused_until_ns_);
}

}  // namespace wisp::mmds
