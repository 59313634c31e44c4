// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/tables/acpi.h"

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "base/check.h"
#include "base/endian.h"
#include "base/limits.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/load/place.h"
#include "vmm/boot/tables/aml.h"

namespace wisp::boot {

namespace {

struct TableHeader {  // section 5.2.6
    char signature[4];
    le32 length;
    uint8_t revision;
    uint8_t checksum;
    char oem_id[6];
    char oem_table_id[8];
    le32 oem_revision;
    char creator_id[4];
    le32 creator_revision;
};
static_assert(sizeof(TableHeader) == 36);

struct GenericAddress {  // section 5.2.3.2
    uint8_t space;
    uint8_t bit_width;
    uint8_t bit_offset;
    uint8_t access_size;
    le64 address;
};
static_assert(sizeof(GenericAddress) == 12);

GenericAddress byte_port(uint16_t port) {
    return {.space = 1, .bit_width = 8, .bit_offset = 0, .access_size = 1, .address = port};
}

struct Fadt {  // section 5.2.9, table 5.9; what a hardware-reduced platform leaves zero is not named
    TableHeader header;
    le32 firmware_control;
    le32 dsdt;
    uint8_t reserved;
    uint8_t preferred_profile;
    uint8_t fixed_hardware_1[62];  // SCI interrupt to MON_ALRM, day and century
    uint8_t century;
    le16 boot_architecture;
    uint8_t reserved_2;
    le32 flags;
    GenericAddress reset_register;
    uint8_t reset_value;
    le16 arm_boot_architecture;
    uint8_t minor_version;
    le64 x_firmware_control;
    le64 x_dsdt;
    GenericAddress fixed_hardware_2[8];  // PM1a event to GPE1
    GenericAddress sleep_control;
    GenericAddress sleep_status;
    char hypervisor_vendor[8];
};
static_assert(sizeof(Fadt) == 276);
static_assert(offsetof(Fadt, boot_architecture) == 109 && offsetof(Fadt, flags) == 112);
static_assert(offsetof(Fadt, x_dsdt) == 140 && offsetof(Fadt, sleep_control) == 244);

// FADT flags (table 5.10)
constexpr uint32_t kWbinvd = 1 << 0;
constexpr uint32_t kNoFixedPowerButton = 1 << 4;
constexpr uint32_t kNoFixedSleepButton = 1 << 5;
constexpr uint32_t kResetRegister = 1 << 10;
constexpr uint32_t kHardwareReduced = 1 << 20;
// IA-PC boot architecture flags (table 5.11)
constexpr uint16_t kLegacyDevices = 1 << 0;
constexpr uint16_t k8042 = 1 << 1;
constexpr uint16_t kNoVga = 1 << 2;
constexpr uint16_t kNoMsi = 1 << 3;
constexpr uint16_t kNoCmosClock = 1 << 5;

struct MadtHead {  // section 5.2.12
    TableHeader header;
    le32 local_apic_address;
    le32 flags;  // no 8259 pair that a guest should see: nothing is wired to it
};
static_assert(sizeof(MadtHead) == 44);

struct MadtLocalApic {  // section 5.2.12.2
    uint8_t type;
    uint8_t length;
    uint8_t processor_uid;
    uint8_t apic_id;
    le32 flags;
};
static_assert(sizeof(MadtLocalApic) == 8);
constexpr uint32_t kLocalApicEnabled = 1;

struct MadtIoApic {  // section 5.2.12.3
    uint8_t type;
    uint8_t length;
    uint8_t id;
    uint8_t reserved;
    le32 address;
    le32 first_gsi;
};
static_assert(sizeof(MadtIoApic) == 12);

struct Rsdp {  // section 5.2.5.3
    char signature[8];
    uint8_t checksum;  // of the first 20 bytes
    char oem_id[6];
    uint8_t revision;
    le32 rsdt_address;
    le32 length;
    le64 xsdt_address;
    uint8_t extended_checksum;
    uint8_t reserved[3];
};
static_assert(sizeof(Rsdp) == 36);

TableHeader header_of(const char (&signature)[5], uint8_t revision) {
    TableHeader header{};
    memcpy(header.signature, signature, sizeof header.signature);
    header.revision = revision;
    memcpy(header.oem_id, "WISP  ", sizeof header.oem_id);
    memcpy(header.oem_table_id, "MICROVM ", sizeof header.oem_table_id);
    header.oem_revision = 1;
    memcpy(header.creator_id, "WISP", sizeof header.creator_id);
    header.creator_revision = 1;
    return header;
}

template <class T>
void append(std::vector<std::byte>& table, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto bytes = std::as_bytes(std::span(&value, 1));
    table.insert(table.end(), bytes.begin(), bytes.end());
}

/// Fills in the header's length and checksum.
std::vector<std::byte> finish(std::vector<std::byte> table) {
    TableHeader header;
    memcpy(&header, table.data(), sizeof header);
    header.length = static_cast<uint32_t>(table.size());
    header.checksum = 0;
    memcpy(table.data(), &header, sizeof header);
    header.checksum = checksum_of(table);
    memcpy(table.data(), &header, sizeof header);
    return table;
}

aml::Code serial_node() {
    return aml::device("COM1", aml::join({
                                   aml::name("_HID", aml::eisa_id("PNP0501")),
                                   aml::name("_UID", aml::integer(0)),
                                   aml::name("_DDN", aml::string("COM1")),
                                   aml::name("_CRS", aml::resources({
                                                         aml::io_ports(kSerialPort, kSerialPortCount),
                                                         aml::interrupt(kSerialGsi),
                                                     })),
                               }));
}

aml::Code keyboard_node() {
    return aml::device("PS2K", aml::join({
                                   aml::name("_HID", aml::eisa_id("PNP0303")),
                                   aml::name("_CRS", aml::resources({
                                                         aml::io_ports(kKeyboardDataPort, 1),
                                                         aml::io_ports(kKeyboardCommandPort, 1),
                                                         aml::interrupt(kKeyboardGsi),
                                                     })),
                               }));
}

/// LNRO0005 is the id that Linux's virtio-mmio driver takes (drivers/virtio/virtio_mmio.c).
aml::Code virtio_node(unsigned index, const VirtioMmioDevice& device) {
    return aml::device(format("V%03u", index),
                       aml::join({
                           aml::name("_HID", aml::string("LNRO0005")),
                           aml::name("_UID", aml::integer(index)),
                           aml::name("_CCA", aml::integer(1)),  // its memory accesses are coherent
                           aml::name("_CRS", aml::resources({
                                                 aml::memory_32(static_cast<uint32_t>(device.address.value),
                                                                static_cast<uint32_t>(kMmioSlotSize)),
                                                 aml::interrupt(device.gsi),
                                             })),
                       }));
}

}  // namespace

std::vector<std::byte> make_dsdt(const AcpiPlatform& platform) {
    aml::Code devices;
    if (platform.serial == Presence::kPresent) devices += serial_node();
    if (platform.keyboard == Presence::kPresent) devices += keyboard_node();
    for (unsigned i = 0; i < platform.virtio_devices.size(); ++i) devices += virtio_node(i, platform.virtio_devices[i]);

    // Soft-off is the one sleep state (section 7.4.2): without it a guest's power-off only halts.
    const aml::Code s5 = aml::name(
        "\\_S5_", aml::package({aml::integer(kSleepTypeOff), aml::integer(0), aml::integer(0), aml::integer(0)}));
    std::vector<std::byte> table;
    append(table, header_of("DSDT", 2));
    for (const char byte : s5 + aml::scope("\\_SB_", devices)) table.push_back(static_cast<std::byte>(byte));
    return finish(std::move(table));
}

std::vector<std::byte> make_fadt(const AcpiPlatform& platform, GuestAddress dsdt) {
    Fadt fadt{};
    fadt.header = header_of("FACP", 6);
    fadt.minor_version = 5;
    fadt.dsdt = static_cast<uint32_t>(dsdt.value);
    fadt.x_dsdt = dsdt.value;
    fadt.flags = kWbinvd | kNoFixedPowerButton | kNoFixedSleepButton | kResetRegister | kHardwareReduced;
    uint16_t architecture = kNoVga | kNoMsi | kNoCmosClock;
    if (platform.serial == Presence::kPresent) architecture |= kLegacyDevices;
    if (platform.keyboard == Presence::kPresent) architecture |= kLegacyDevices | k8042;
    fadt.boot_architecture = architecture;
    fadt.reset_register = byte_port(kKeyboardCommandPort);
    fadt.reset_value = kResetCommand;
    fadt.sleep_control = byte_port(kSleepControlPort);
    fadt.sleep_status = byte_port(kSleepStatusPort);
    memcpy(fadt.hypervisor_vendor, "WISP", 4);

    std::vector<std::byte> table;
    append(table, fadt);
    return finish(std::move(table));
}

std::vector<std::byte> make_madt(unsigned vcpu_count) {
    CHECK(vcpu_count >= 1 && vcpu_count <= limits::kMaxVcpus);
    std::vector<std::byte> table;
    append(table, MadtHead{header_of("APIC", 5), kLocalApicAddress, {}});
    for (unsigned i = 0; i < vcpu_count; ++i) {
        const auto id = static_cast<uint8_t>(i);
        append(table, MadtLocalApic{0, sizeof(MadtLocalApic), id, id, kLocalApicEnabled});
    }
    const auto io_apic = static_cast<uint8_t>(vcpu_count);  // the first id that no processor has
    append(table, MadtIoApic{1, sizeof(MadtIoApic), io_apic, 0, kIoApicAddress, {}});
    return finish(std::move(table));
}

std::vector<std::byte> make_xsdt(std::span<const GuestAddress> tables) {
    std::vector<std::byte> table;
    append(table, header_of("XSDT", 1));
    for (const GuestAddress address : tables) append(table, le64(address.value));
    return finish(std::move(table));
}

std::vector<std::byte> make_rsdp(GuestAddress xsdt) {
    Rsdp rsdp{};
    memcpy(rsdp.signature, "RSD PTR ", sizeof rsdp.signature);
    memcpy(rsdp.oem_id, "WISP  ", sizeof rsdp.oem_id);
    rsdp.revision = 2;
    rsdp.length = static_cast<uint32_t>(sizeof rsdp);
    rsdp.xsdt_address = xsdt.value;
    rsdp.checksum = checksum_of(std::as_bytes(std::span(&rsdp, 1)).first(20));
    rsdp.extended_checksum = checksum_of(std::as_bytes(std::span(&rsdp, 1)));
    std::vector<std::byte> table;
    append(table, rsdp);
    return table;
}

Result<void> write_acpi_tables(const GuestMemory& memory, const AcpiPlatform& platform) {
    CHECK(platform.virtio_devices.size() <= limits::kMaxMmioDevices);
    GuestAddress next = kAcpiTables;
    const auto put = [&](const std::vector<std::byte>& table) -> Result<GuestAddress> {
        const GuestAddress at = next;
        TRY(place_bytes(memory, at, table, "ACPI tables"));
        next = {align_up(at.value + table.size(), 16)};
        CHECK(next <= kRsdp);
        return at;
    };
    const GuestAddress dsdt = TRY(put(make_dsdt(platform)));
    const GuestAddress tables[] = {TRY(put(make_fadt(platform, dsdt))), TRY(put(make_madt(platform.vcpu_count)))};
    const GuestAddress xsdt = TRY(put(make_xsdt(tables)));
    return place_bytes(memory, kRsdp, make_rsdp(xsdt), "ACPI root pointer");
}

}  // namespace wisp::boot
