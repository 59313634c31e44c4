// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/cpuid.h"

#include <array>
#include <bit>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace wisp {

namespace {

using Entry = kvm_cpuid_entry2;

constexpr uint32_t bit(unsigned number) {
    return 1u << number;
}

constexpr void set_bits(uint32_t& reg, uint32_t mask) {
    reg |= mask;
}
constexpr void clear_bits(uint32_t& reg, uint32_t mask) {
    reg &= ~mask;
}

/// Puts `value` into bits low..high of a register.
constexpr void put(uint32_t& reg, unsigned low, unsigned high, uint32_t value) {
    const uint32_t mask = (high - low == 31 ? ~0u : bit(high - low + 1) - 1) << low;
    reg = (reg & ~mask) | ((value << low) & mask);
}

Entry* find(CpuidTable& table, uint32_t function, uint32_t index = 0) {
    for (Entry& entry : table)
        if (entry.function == function && entry.index == index) return &entry;
    return nullptr;
}

/// Bits of an APIC ID that number `count` things.
unsigned id_bits(unsigned count) {
    return static_cast<unsigned>(std::bit_width(count - 1));
}

void features(Entry& leaf, const CpuTopology& topology, unsigned vcpu_id) {
    put(leaf.ebx, 8, 15, 8);                     // CLFLUSH line: 8 quadwords
    put(leaf.ebx, 16, 23, topology.vcpu_count);  // logical processors of the package
    put(leaf.ebx, 24, 31, vcpu_id);              // initial APIC ID
    clear_bits(leaf.ecx, bit(15));               // PDCM: no performance capabilities MSR
    set_bits(leaf.ecx, bit(24));                 // TSC deadline timer: the in-kernel local APIC has it
    set_bits(leaf.ecx, bit(31));                 // a hypervisor is present
    put(leaf.edx, 28, 28, topology.vcpu_count > 1);
}

// Leaf 4 (Intel) and 0x8000001d (AMD) describe caches alike: sharing in EAX[25:14].
void cache_sharing(Entry& leaf, const CpuTopology& topology) {
    const unsigned type = leaf.eax & 0x1f, level = (leaf.eax >> 5) & 7;
    if (type == 0) return;
    put(leaf.eax, 14, 25, (level < 3 ? topology.threads_per_core() : topology.vcpu_count) - 1);
}

// Leaves 0xb and 0x1f: one entry a topology level, ended by a level of type 0.
void extended_topology(CpuidTable& table, uint32_t function, const CpuTopology& topology, unsigned vcpu_id) {
    if (!find(table, function)) return;
    std::erase_if(table, [=](const Entry& entry) { return entry.function == function; });
    const unsigned threads = topology.threads_per_core();
    const struct {
        unsigned shift, processors, type;
    } levels[] = {{id_bits(threads), threads, 1}, {id_bits(topology.vcpu_count), topology.vcpu_count, 2}, {0, 0, 0}};
    for (uint32_t index = 0; index < std::size(levels); ++index) {
        Entry entry{};
        entry.function = function;
        entry.index = index;
        entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        entry.eax = levels[index].shift;
        entry.ebx = levels[index].processors;
        entry.ecx = index | levels[index].type << 8;
        entry.edx = vcpu_id;
        table.push_back(entry);
    }
}

void amd_topology(CpuidTable& table, const CpuTopology& topology, unsigned vcpu_id) {
    if (Entry* leaf = find(table, 0x80000001)) set_bits(leaf->ecx, bit(22));  // topology extensions: the leaves below
    if (Entry* leaf = find(table, 0x80000008)) {
        put(leaf->ecx, 0, 7, topology.vcpu_count - 1);
        put(leaf->ecx, 12, 15, id_bits(topology.vcpu_count));
    }
    if (Entry* leaf = find(table, 0x8000001e)) {
        leaf->eax = vcpu_id;
        leaf->ebx = vcpu_id / topology.threads_per_core() | (topology.threads_per_core() - 1) << 8;
        leaf->ecx = 0;  // one node
        leaf->edx = 0;
    }
}

// The frequency at the end of an Intel brand string, such as "2.50GHz"; empty where there is none.
std::string_view brand_frequency(std::string_view brand) {
    const size_t unit = brand.find("Hz");
    if (unit == std::string_view::npos || unit < 2) return {};
    const size_t start = brand.find_last_not_of("0123456789.", unit - 2);
    if (start == std::string_view::npos) return {};
    return brand.substr(start + 1, unit + 2 - (start + 1));
}

void brand_string(CpuidTable& table, CpuVendor vendor) {
    std::array<char, 49> host{}, guest{};
    for (uint32_t i = 0; i < 3; ++i) {
        const Entry* leaf = find(table, 0x80000002 + i);
        if (!leaf) return;
        memcpy(host.data() + 16 * i, &leaf->eax, 16);
    }
    if (vendor == CpuVendor::kIntel) {
        const std::string_view frequency = brand_frequency(host.data());
        snprintf(guest.data(), guest.size(), "Intel(R) Xeon(R) Processor%s%.*s", frequency.empty() ? "" : " @ ",
                 static_cast<int>(frequency.size()), frequency.data());
    } else if (vendor == CpuVendor::kAmd) {
        snprintf(guest.data(), guest.size(), "AMD EPYC");
    } else {
        return;
    }
    for (uint32_t i = 0; i < 3; ++i) memcpy(&find(table, 0x80000002 + i)->eax, guest.data() + 16 * i, 16);
}

}  // namespace

CpuVendor cpu_vendor(const CpuidTable& table) {
    for (const Entry& leaf : table) {
        if (leaf.function != 0) continue;
        char name[12];
        memcpy(name, &leaf.ebx, 4);
        memcpy(name + 4, &leaf.edx, 4);
        memcpy(name + 8, &leaf.ecx, 4);
        const std::string_view text(name, sizeof name);
        if (text == "GenuineIntel") return CpuVendor::kIntel;
        if (text == "AuthenticAMD" || text == "HygonGenuine") return CpuVendor::kAmd;
    }
    return CpuVendor::kOther;
}

CpuidTable normalize_cpuid(CpuidTable table, const CpuTopology& topology, unsigned vcpu_id) {
    const CpuVendor vendor = cpu_vendor(table);
    for (Entry& leaf : table) {
        switch (leaf.function) {
            case 0x1:
                features(leaf, topology, vcpu_id);
                break;
            case 0x4:
                cache_sharing(leaf, topology);
                if (leaf.eax & 0x1f) put(leaf.eax, 26, 31, topology.cores() - 1);
                break;
            case 0x6:
                clear_bits(leaf.eax, bit(1));  // turbo
                clear_bits(leaf.ecx, bit(3));  // energy/performance bias
                break;
            case 0x7:
                if (leaf.index != 0) break;
                clear_bits(leaf.ecx, bit(5));  // WAITPKG: a guest must not make the host's CPU wait
                if (vendor == CpuVendor::kIntel)
                    set_bits(leaf.ebx, bit(6) | bit(13));  // FPU data pointer and selectors: as new CPUs
                break;
            case 0xa:  // no performance counters
                leaf.eax = leaf.ebx = leaf.ecx = leaf.edx = 0;
                break;
            case 0x8000001d:
                cache_sharing(leaf, topology);
                break;
            default:
                break;
        }
    }
    extended_topology(table, 0xb, topology, vcpu_id);
    extended_topology(table, 0x1f, topology, vcpu_id);
    if (vendor == CpuVendor::kAmd) amd_topology(table, topology, vcpu_id);
    brand_string(table, vendor);
    return table;
}

}  // namespace wisp
