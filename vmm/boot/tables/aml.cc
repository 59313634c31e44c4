// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/tables/aml.h"

#include "base/check.h"

namespace wisp::boot::aml {

namespace {

/// `size` bytes of `value`, little-endian.
Code little_endian(uint64_t value, unsigned size) {
    Code bytes;
    for (unsigned i = 0; i < size; ++i) bytes += static_cast<char>(value >> (8 * i));
    return bytes;
}

/// Section 20.2.4: the length counts its own bytes. One byte holds 6 bits; else the first has 4, and how many follow.
Code package_length(size_t body) {
    if (body + 1 < 1 << 6) return little_endian(body + 1, 1);
    unsigned more = 1;
    while (body + 1 + more >= 1ull << (4 + 8 * more)) ++more;
    CHECK(more <= 3);
    const uint64_t length = body + 1 + more;
    return little_endian(more << 6 | (length & 0xf), 1) + little_endian(length >> 4, more);
}

Code with_length(std::string_view opcode, const Code& body) {
    return Code(opcode) + package_length(body.size()) + body;
}

/// Section 20.2.2: an optional root prefix, then one segment, padded with underscores.
Code name_string(std::string_view path) {
    Code encoded;
    if (path.starts_with('\\')) {
        encoded = "\\";
        path.remove_prefix(1);
    }
    CHECK(!path.empty() && path.size() <= 4);
    return (encoded += path).append(4 - path.size(), '_');
}

uint8_t hex_digit(char digit) {
    CHECK((digit >= '0' && digit <= '9') || (digit >= 'A' && digit <= 'F'));
    return static_cast<uint8_t>(digit <= '9' ? digit - '0' : digit - 'A' + 10);
}

}  // namespace

Code join(std::initializer_list<Code> terms) {
    Code all;
    for (const Code& term : terms) all += term;
    return all;
}

Code integer(uint64_t value) {  // section 20.2.3
    if (value <= 1) return little_endian(value, 1);
    if (value <= UINT8_MAX) return "\x0a" + little_endian(value, 1);
    if (value <= UINT16_MAX) return "\x0b" + little_endian(value, 2);
    if (value <= UINT32_MAX) return "\x0c" + little_endian(value, 4);
    return "\x0e" + little_endian(value, 8);
}

Code string(std::string_view text) {
    return "\x0d" + Code(text) + '\0';
}

Code eisa_id(std::string_view id) {  // section 19.3.4: 5 bits a letter, 4 a digit, big-endian
    CHECK(id.size() == 7);
    uint32_t packed = 0;
    for (const char letter : id.substr(0, 3)) packed = packed << 5 | static_cast<uint32_t>(letter - '@');
    for (const char digit : id.substr(3)) packed = packed << 4 | hex_digit(digit);
    return "\x0c" + little_endian(__builtin_bswap32(packed), 4);
}

Code package(std::initializer_list<Code> elements) {
    return with_length("\x12", little_endian(elements.size(), 1) + join(elements));
}

Code name(std::string_view path, const Code& value) {
    return "\x08" + name_string(path) + value;
}

Code scope(std::string_view path, const Code& body) {
    return with_length("\x10", name_string(path) + body);
}

Code device(std::string_view path, const Code& body) {
    return with_length("\x5b\x82", name_string(path) + body);
}

Code io_ports(uint16_t first, uint8_t count) {  // section 6.4.2.5, 16-bit decode, at this address only
    return "\x47\x01" + little_endian(first, 2) + little_endian(first, 2) + '\x01' + static_cast<char>(count);
}

Code memory_32(uint32_t address, uint32_t size) {  // section 6.4.3.4, read-write
    return "\x86" + little_endian(9, 2) + '\x01' + little_endian(address, 4) + little_endian(size, 4);
}

Code interrupt(uint32_t gsi) {  // section 6.4.3.6
    constexpr char kConsumer = 1 << 0, kEdge = 1 << 1;
    return "\x89" + little_endian(6, 2) + static_cast<char>(kConsumer | kEdge) + '\x01' + little_endian(gsi, 4);
}

Code resources(std::initializer_list<Code> descriptors) {
    const Code end_tag("\x79\x00", 2);  // section 6.4.2.9: a checksum of 0 means there is none
    const Code bytes = join(descriptors) + end_tag;
    return with_length("\x11", integer(bytes.size()) + bytes);
}

}  // namespace wisp::boot::aml
