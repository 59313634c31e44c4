// SPDX-License-Identifier: Apache-2.0
//
// What a network interface is made from.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/rate_limiter.h"
#include "virtio/net/uapi.h"

namespace wisp::virtio {

/// Answers frames of the guest in place of the host's network (MMDS). What it takes never reaches the tap.
class FrameResponder {
public:
    virtual ~FrameResponder() = default;
    /// The first bytes of a frame that it needs to see, at most, to know whether the frame is for it.
    static constexpr size_t kStart = ETH_HLEN + 28;
    virtual bool wants(std::span<const std::byte> start) const = 0;
    /// Takes a whole frame, without the virtio header.
    virtual void receive(std::span<const std::byte> frame, uint64_t now_ns) = 0;
    /// The next frame for the guest: its length, or 0 if there is none. There is room for limits::kNetMaxFrame bytes.
    virtual size_t transmit(std::span<std::byte> frame, uint64_t now_ns) = 0;
    /// When transmit() has something; UINT64_MAX: not before something is received.
    virtual uint64_t deadline_ns() const = 0;
};

struct NetConfig {
    using MacAddress = std::array<uint8_t, 6>;

    std::string id{};   ///< iface_id, for messages
    std::string tap{};  ///< host_dev_name
    std::optional<MacAddress> mac{};
    std::optional<uint16_t> mtu{};
    RateLimiterConfig receive_limiter{}, send_limiter{};
    std::unique_ptr<FrameResponder> responder{};
};

}  // namespace wisp::virtio
