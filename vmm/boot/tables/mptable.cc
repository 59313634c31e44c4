// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/tables/mptable.h"

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "base/check.h"
#include "base/endian.h"
#include "base/limits.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/load/place.h"

namespace wisp::boot {

namespace {

struct FloatingPointer {  // section 4.1
    char signature[4] = {'_', 'M', 'P', '_'};
    le32 table_address = static_cast<uint32_t>(kMpTable.value + 16);
    uint8_t length_in_paragraphs = 1;
    uint8_t specification = 4;  // 1.4
    uint8_t checksum = 0;
    uint8_t features[5] = {};  // a table is present; virtual wire mode, no IMCR
};
static_assert(sizeof(FloatingPointer) == 16);

struct TableHeader {  // section 4.2
    char signature[4] = {'P', 'C', 'M', 'P'};
    le16 length;
    uint8_t specification = 4;
    uint8_t checksum = 0;
    char oem_id[8] = {'W', 'I', 'S', 'P', ' ', ' ', ' ', ' '};
    char product_id[12] = {'M', 'I', 'C', 'R', 'O', 'V', 'M', ' ', ' ', ' ', ' ', ' '};
    le32 oem_table_address;
    le16 oem_table_size;
    le16 entry_count;
    le32 local_apic_address = kLocalApicAddress;
    le16 extended_length;
    uint8_t extended_checksum = 0;
    uint8_t reserved = 0;
};
static_assert(sizeof(TableHeader) == 44);

constexpr uint8_t kApicVersion = 0x14;  // integrated APIC, as KVM's

struct Processor {  // section 4.3.1
    uint8_t type = 0;
    uint8_t local_apic_id = 0;
    uint8_t local_apic_version = kApicVersion;
    uint8_t flags = 0;
    le32 signature = 0x600;  // family 6; guests read CPUID instead
    le32 features = 0x201;   // FPU and APIC
    le32 reserved[2];
};
static_assert(sizeof(Processor) == 20);
constexpr uint8_t kProcessorEnabled = 1;
constexpr uint8_t kProcessorBoot = 2;

struct Bus {  // section 4.3.2
    uint8_t type = 1;
    uint8_t id = 0;
    char name[6] = {'I', 'S', 'A', ' ', ' ', ' '};
};
static_assert(sizeof(Bus) == 8);

struct IoApic {  // section 4.3.3
    uint8_t type = 2;
    uint8_t id = 0;
    uint8_t version = kApicVersion;
    uint8_t flags = 1;  // usable
    le32 address = kIoApicAddress;
};
static_assert(sizeof(IoApic) == 8);

enum InterruptType : uint8_t { kInt = 0, kNmi = 1, kExtInt = 3 };

struct InterruptSource {  // sections 4.3.4 and 4.3.5
    uint8_t type = 3;     // 3: to an IOAPIC's pin, 4: to a local APIC's
    uint8_t interrupt_type = kInt;
    le16 flags;  // polarity and trigger as the bus has them: ISA, edge-triggered and active high
    uint8_t bus = 0;
    uint8_t bus_irq = 0;
    uint8_t apic = 0;
    uint8_t pin = 0;
};
static_assert(sizeof(InterruptSource) == 8);
constexpr uint8_t kLocalSource = 4;
constexpr uint8_t kBootApic = 0;
constexpr uint8_t kAllApics = 0xff;

template <class T>
void append(std::vector<std::byte>& table, const T& entry) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto bytes = std::as_bytes(std::span(&entry, 1));
    table.insert(table.end(), bytes.begin(), bytes.end());
}

/// The table's entries: by type, ascending (section 4.3). Returns how many there are.
unsigned append_entries(std::vector<std::byte>& table, unsigned vcpu_count) {
    for (unsigned i = 0; i < vcpu_count; ++i) {
        const uint8_t flags = kProcessorEnabled | (i == 0 ? kProcessorBoot : 0);
        append(table, Processor{.local_apic_id = static_cast<uint8_t>(i), .flags = flags, .reserved = {}});
    }
    append(table, Bus{});
    const auto io_apic = static_cast<uint8_t>(vcpu_count);  // the first id that no processor has
    append(table, IoApic{.id = io_apic});
    for (uint8_t gsi = 0; gsi <= kLastGsi; ++gsi)
        append(table, InterruptSource{.flags = {}, .bus_irq = gsi, .apic = io_apic, .pin = gsi});
    append(table,
           InterruptSource{.type = kLocalSource, .interrupt_type = kExtInt, .flags = {}, .apic = kBootApic, .pin = 0});
    append(table,
           InterruptSource{.type = kLocalSource, .interrupt_type = kNmi, .flags = {}, .apic = kAllApics, .pin = 1});
    return vcpu_count + 2 + (kLastGsi + 1) + 2;
}

}  // namespace

std::vector<std::byte> make_mp_table(unsigned vcpu_count) {
    CHECK(vcpu_count >= 1 && vcpu_count <= limits::kMaxVcpus);
    std::vector<std::byte> table;
    table.reserve(kMpTableEnd.value - kMpTable.value);

    FloatingPointer pointer;
    pointer.checksum = checksum_of(std::as_bytes(std::span(&pointer, 1)));
    append(table, pointer);

    const size_t header_at = table.size();
    TableHeader header;
    append(table, header);
    header.entry_count = static_cast<uint16_t>(append_entries(table, vcpu_count));
    header.length = static_cast<uint16_t>(table.size() - header_at);
    memcpy(table.data() + header_at, &header, sizeof header);
    header.checksum = checksum_of(std::span(table).subspan(header_at));
    memcpy(table.data() + header_at, &header, sizeof header);

    CHECK(table.size() <= kMpTableEnd.value - kMpTable.value);
    return table;
}

Result<void> write_mp_table(const GuestMemory& memory, unsigned vcpu_count) {
    return place_bytes(memory, kMpTable, make_mp_table(vcpu_count), "MP table");
}

}  // namespace wisp::boot
