// SPDX-License-Identifier: Apache-2.0
#include "vmm/mmds/token.h"

#include <sys/random.h>

#include <bit>
#include <cstddef>
#include <cstring>

namespace wisp::mmds {

namespace {

// A token's bytes, written as base64: expiry in ms, counter, hash of both.
struct TokenBytes {
    uint64_t expires_ms;
    uint64_t number;
    std::array<uint64_t, 2> proof;
};
static_assert(sizeof(TokenBytes) == 32);
constexpr size_t kSigned = offsetof(TokenBytes, proof);

constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr size_t kTextLength = (sizeof(TokenBytes) * 8 + 5) / 6;
static_assert(kTextLength <= kMaxTokenLength);

std::string encode(const TokenBytes& token) {
    const auto* const bytes = reinterpret_cast<const uint8_t*>(&token);
    std::string out;
    uint32_t bits = 0;
    unsigned count = 0;
    for (size_t i = 0; i < sizeof token; ++i) {
        bits = bits << 8 | bytes[i];
        for (count += 8; count >= 6; count -= 6) out += kDigits[bits >> (count - 6) & 63];
    }
    if (count > 0) out += kDigits[bits << (6 - count) & 63];
    return out;
}

std::optional<TokenBytes> decode(std::string_view text) {
    if (text.size() != kTextLength) return std::nullopt;
    TokenBytes token{};
    auto* const bytes = reinterpret_cast<uint8_t*>(&token);
    uint32_t bits = 0;
    unsigned count = 0;
    size_t size = 0;
    for (const char c : text) {
        const void* const digit = memchr(kDigits, c, sizeof kDigits - 1);
        if (!digit) return std::nullopt;
        bits = bits << 6 | static_cast<uint32_t>(static_cast<const char*>(digit) - kDigits);
        count += 6;
        if (count < 8) continue;
        count -= 8;
        bytes[size++] = static_cast<uint8_t>(bits >> count);
    }
    if (bits & ((1u << count) - 1)) return std::nullopt;  // a token has one text only
    return token;
}

std::string_view signed_part(const TokenBytes& token) {
    return {reinterpret_cast<const char*>(&token), kSigned};
}

class Sip {
public:
    explicit Sip(const TokenAuthority::Key& key)
        : v0_(0x736f6d6570736575 ^ key[0]),
          v1_(0x646f72616e646f6d ^ key[1] ^ 0xee),
          v2_(0x6c7967656e657261 ^ key[0]),
          v3_(0x7465646279746573 ^ key[1]) {}

    void word(uint64_t word) {
        v3_ ^= word;
        rounds(2);
        v0_ ^= word;
    }
    std::array<uint64_t, 2> finish() {
        v2_ ^= 0xee;
        rounds(4);
        const uint64_t first = v0_ ^ v1_ ^ v2_ ^ v3_;
        v1_ ^= 0xdd;
        rounds(4);
        return {first, v0_ ^ v1_ ^ v2_ ^ v3_};
    }

private:
    void rounds(int count) {
        while (count-- > 0) {
            v0_ += v1_, v2_ += v3_;
            v1_ = std::rotl(v1_, 13) ^ v0_, v3_ = std::rotl(v3_, 16) ^ v2_;
            v0_ = std::rotl(v0_, 32);
            v2_ += v1_, v0_ += v3_;
            v1_ = std::rotl(v1_, 17) ^ v2_, v3_ = std::rotl(v3_, 21) ^ v0_;
            v2_ = std::rotl(v2_, 32);
        }
    }
    uint64_t v0_, v1_, v2_, v3_;
};

}  // namespace

std::array<uint64_t, 2> siphash128(const TokenAuthority::Key& key, std::string_view data) {
    Sip sip(key);
    const uint64_t length = static_cast<uint64_t>(data.size()) << 56;
    uint64_t word = 0;
    for (; data.size() >= 8; data.remove_prefix(8)) {
        memcpy(&word, data.data(), 8);
        sip.word(word);
    }
    word = 0;
    memcpy(&word, data.data(), data.size());
    sip.word(word | length);
    return sip.finish();
}

Result<TokenAuthority> TokenAuthority::create() {
    Key key{};
    if (getrandom(key.data(), sizeof key, 0) != sizeof key) return fail_errno("MMDS: no random key");
    return TokenAuthority(key);
}

std::string TokenAuthority::issue(uint32_t seconds, uint64_t now_ms) {
    TokenBytes token{now_ms + uint64_t{seconds} * 1000, issued_++, {}};
    token.proof = siphash128(key_, signed_part(token));
    return encode(token);
}

bool TokenAuthority::valid(std::string_view text, uint64_t now_ms) const {
    const std::optional<TokenBytes> token = decode(text);
    if (!token) return false;
    const auto proof = siphash128(key_, signed_part(*token));
    const uint64_t difference = (proof[0] ^ token->proof[0]) | (proof[1] ^ token->proof[1]);
    return difference == 0 && now_ms < token->expires_ms;
}

}  // namespace wisp::mmds
