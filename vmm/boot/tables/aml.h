// SPDX-License-Identifier: Apache-2.0
//
// The subset of AML (ACPI 6.5, section 20) that Wisp's DSDT uses. Each function returns the bytes of one term. A term
// contains others by concatenation.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace wisp::boot::aml {

/// AML code. A string, because terms are joined.
using Code = std::string;

/// Terms one after the other.
Code join(std::initializer_list<Code> terms);

// Data
Code integer(uint64_t value);
Code string(std::string_view text);  ///< printable ASCII
Code eisa_id(std::string_view id);   ///< three capitals and four hex digits, e.g. "PNP0501"
Code package(std::initializer_list<Code> elements);

// Named objects. A name has one to four characters, with a `\` before them for the root.
Code name(std::string_view path, const Code& value);
Code scope(std::string_view path, const Code& body);
Code device(std::string_view path, const Code& body);

// Resource descriptors (section 6.4); resources() is the buffer that _CRS returns.
Code io_ports(uint16_t first, uint8_t count);
Code memory_32(uint32_t address, uint32_t size);
Code interrupt(uint32_t gsi);  ///< consumer, edge-triggered, active high, exclusive
Code resources(std::initializer_list<Code> descriptors);

}  // namespace wisp::boot::aml
