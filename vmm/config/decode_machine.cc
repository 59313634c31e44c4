// SPDX-License-Identifier: Apache-2.0
//
// machine-config and boot-source.
#include "vmm/config/decode_resources.h"

namespace wisp::config {

namespace {

/// mem_size_mib is a usize in Firecracker, and says so in its message.
Decoded<> read_usize(const Value& value, uint64_t& out) {
    out = TRY(read_integer(value, UINT64_MAX, "usize"));
    return {};
}

constexpr Field kMachineFields[] = {
    required<&MachineConfig::vcpu_count>("vcpu_count"),
    with<&MachineConfig::mem_size_mib, read_usize>("mem_size_mib", true),
    optional<&MachineConfig::smt>("smt"),
    optional<&MachineConfig::cpu_template>("cpu_template"),
    optional<&MachineConfig::track_dirty_pages>("track_dirty_pages"),
    optional<&MachineConfig::huge_pages>("huge_pages"),
};

constexpr Field kMachinePatchFields[] = {
    optional<&MachineConfigPatch::vcpu_count>("vcpu_count"),
    with<&MachineConfigPatch::mem_size_mib, read_usize>("mem_size_mib", false),
    optional<&MachineConfigPatch::smt>("smt"),
    optional<&MachineConfigPatch::cpu_template>("cpu_template"),
    optional<&MachineConfigPatch::track_dirty_pages>("track_dirty_pages"),
    optional<&MachineConfigPatch::huge_pages>("huge_pages"),
};

constexpr Field kBootSourceFields[] = {
    required<&BootSource::kernel_image_path>("kernel_image_path"),
    optional<&BootSource::initrd_path>("initrd_path"),
    optional<&BootSource::boot_args>("boot_args"),
};

}  // namespace

Decoded<> read(const Value& value, HugePages& out) {
    static constexpr const char* kNames[] = {"None", "Transparent", "2M"};
    out = static_cast<HugePages>(TRY(read_variant(value, kNames)));
    return {};
}

Decoded<> read(const Value& value, CpuTemplateName& out) {
    static constexpr const char* kNames[] = {"C3", "T2", "T2S", "None", "T2CL", "T2A"};
    static constexpr CpuTemplateName kTemplates[] = {CpuTemplateName::kC3,   CpuTemplateName::kT2,
                                                     CpuTemplateName::kT2S,  CpuTemplateName::kNone,
                                                     CpuTemplateName::kT2CL, CpuTemplateName::kT2A};
    out = kTemplates[TRY(read_variant(value, kNames))];
    return {};
}

Decoded<> read(const Value& value, MachineConfig& out) {
    return read_object(value, {"MachineConfig", kMachineFields}, &out);
}

Decoded<> read(const Value& value, MachineConfigPatch& out) {
    return read_object(value, {"MachineConfigUpdate", kMachinePatchFields}, &out);
}

Decoded<> read(const Value& value, BootSource& out) {
    return read_object(value, {"BootSourceConfig", kBootSourceFields}, &out);
}

}  // namespace wisp::config
