// SPDX-License-Identifier: Apache-2.0
//
// le16, le32, le64: fields of wire formats and of structures in guest memory. They have no alignment of their own, so a
// packed layout is the plain struct, and the byte order is in the type and not in the memory of the reader.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>

namespace wisp {

template <std::unsigned_integral T>
class LittleEndian {
public:
    constexpr LittleEndian() = default;
    constexpr LittleEndian(T value) : bytes_(std::bit_cast<Bytes>(order(value))) {}
    constexpr operator T() const { return order(std::bit_cast<T>(bytes_)); }
    constexpr T value() const { return *this; }

private:
    struct Bytes {
        uint8_t byte[sizeof(T)] = {};
    };
    static constexpr T order(T value) {
        if constexpr (std::endian::native == std::endian::little)
            return value;
        else
            return std::byteswap(value);
    }
    Bytes bytes_{};
};

using le16 = LittleEndian<uint16_t>;
using le32 = LittleEndian<uint32_t>;
using le64 = LittleEndian<uint64_t>;

static_assert(sizeof(le16) == 2 && alignof(le16) == 1);
static_assert(sizeof(le32) == 4 && alignof(le32) == 1);
static_assert(sizeof(le64) == 8 && alignof(le64) == 1);

}  // namespace wisp
