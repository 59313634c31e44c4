// SPDX-License-Identifier: Apache-2.0
#include "base/utf8.h"

#include <cstddef>
#include <cstdint>

namespace wisp {

namespace {

/// Length in bytes of the sequence that a first byte opens, and the range that its second byte must be in
/// (RFC 3629, section 4). 0: no sequence begins with this byte.
struct Sequence {
    size_t length;
    uint8_t low = 0x80;
    uint8_t high = 0xbf;
};

Sequence sequence_of(uint8_t first) {
    if (first < 0x80) return {1};
    if (first < 0xc2) return {0};
    if (first < 0xe0) return {2};
    if (first == 0xe0) return {3, 0xa0};
    if (first == 0xed) return {3, 0x80, 0x9f};
    if (first < 0xf0) return {3};
    if (first == 0xf0) return {4, 0x90};
    if (first < 0xf4) return {4};
    if (first == 0xf4) return {4, 0x80, 0x8f};
    return {0};
}

}  // namespace

bool valid_utf8(std::string_view text) {
    for (size_t at = 0; at < text.size();) {
        const Sequence sequence = sequence_of(static_cast<uint8_t>(text[at]));
        if (sequence.length == 0 || text.size() - at < sequence.length) return false;
        for (size_t i = 1; i < sequence.length; ++i) {
            const auto byte = static_cast<uint8_t>(text[at + i]);
            const uint8_t low = i == 1 ? sequence.low : 0x80;
            const uint8_t high = i == 1 ? sequence.high : 0xbf;
            if (byte < low || byte > high) return false;
        }
        at += sequence.length;
    }
    return true;
}

}  // namespace wisp
