// SPDX-License-Identifier: Apache-2.0
//
// TokenAuthority: session tokens of MMDS V2. A token holds the time of its expiry and a keyed hash of it (SipHash-2-4,
// 128 bits, a key of this process). So no list of tokens is kept, and a guest cannot make the monitor hold any.
//
// Tokens come from the guest: they are checked in constant time.
//
// Threads: the loop's.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace wisp::mmds {

inline constexpr uint32_t kMinTokenSeconds = 1;
inline constexpr uint32_t kMaxTokenSeconds = 21600;
inline constexpr size_t kMaxTokenLength = 70;  ///< bytes; Firecracker's bound

class TokenAuthority {
public:
    using Key = std::array<uint64_t, 2>;

    explicit TokenAuthority(const Key& key) : key_(key) {}

    /// With a key from the host's random source. The key is not saved: after a load the process has another one and
    /// refuses the tokens of before, as Firecracker does. Clones of one snapshot do not accept each other's tokens.
    static Result<TokenAuthority> create();

    /// A token that is valid for `seconds` from `now_ms`.
    std::string issue(uint32_t seconds, uint64_t now_ms);

    bool valid(std::string_view token, uint64_t now_ms) const;

private:
    Key key_;
    uint64_t issued_ = 0;  ///< makes tokens of the same instant differ
};

/// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, "SipHash: a fast short-input PRF").
std::array<uint64_t, 2> siphash128(const TokenAuthority::Key& key, std::string_view data);

}  // namespace wisp::mmds
