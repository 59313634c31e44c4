// SPDX-License-Identifier: Apache-2.0
//
// Machine files: all resources of the API in one document, in JSON or TOML.
#include <fcntl.h>

#include "base/fd.h"
#include "base/limits.h"
#include "vmm/config/decode_resources.h"
#include "vmm/config/json.h"
#include "vmm/config/toml.h"
#include "vmm/config/vm_config.h"

namespace wisp::config {

namespace {

/// A device that Wisp leaves out by design. Its key may stand with null or [], as in the answer to GET /vm/config.
struct LeftOut {};

/// A machine file as it is written, before the rules between its parts are applied.
struct MachineFile {
    BootSource boot_source;
    std::vector<Drive> drives;
    std::optional<MachineConfig> machine;
    std::optional<Value> cpu_config;
    std::vector<NetworkInterface> network_interfaces;
    std::optional<Vsock> vsock;
    std::optional<Logger> logger;
    std::optional<Metrics> metrics;
    std::optional<Serial> serial;
    std::optional<MmdsConfig> mmds;
    LeftOut left_out;
};

/// An object, or the path of a JSON file that has it.
Decoded<> keep_value(const Value& value, Value& out) {
    if (const Value* fault = value.find_fault()) return fault_in(*fault, fault->text);
    out = value;
    return {};
}

template <const auto& Name>
Decoded<> refuse(const Value& value, LeftOut&) {
    const bool empty = value.is(Value::Kind::kNull) || (value.is(Value::Kind::kArray) && value.items.empty());
    if (empty) return {};
    return fault_in(value, std::string("`") + Name + "`: Wisp leaves this device out by design");
}

constexpr char kBalloon[] = "balloon";
constexpr char kEntropy[] = "entropy";
constexpr char kPmem[] = "pmem";
constexpr char kMemoryHotplug[] = "memory-hotplug";

constexpr Field kFields[] = {
    required<&MachineFile::boot_source>("boot-source"),
    optional<&MachineFile::drives>("drives"),
    optional<&MachineFile::machine>("machine-config"),
    with<&MachineFile::cpu_config, keep_value>("cpu-config", false),
    optional<&MachineFile::network_interfaces>("network-interfaces"),
    optional<&MachineFile::vsock>("vsock"),
    optional<&MachineFile::logger>("logger"),
    optional<&MachineFile::metrics>("metrics"),
    optional<&MachineFile::serial>("serial"),
    optional<&MachineFile::mmds>("mmds-config"),
    with<&MachineFile::left_out, refuse<kBalloon>>(kBalloon, false),
    with<&MachineFile::left_out, refuse<kEntropy>>(kEntropy, false),
    with<&MachineFile::left_out, refuse<kPmem>>(kPmem, false),
    with<&MachineFile::left_out, refuse<kMemoryHotplug>>(kMemoryHotplug, false),
};

bool is_toml(const std::string& path, const std::string& text) {
    if (path.ends_with(".toml")) return true;
    if (path.ends_with(".json")) return false;
    const size_t first = text.find_first_not_of(" \t\r\n");
    return first != std::string::npos && text[first] != '{';
}

Result<CpuConfig> load_cpu_config(const Document& document, const Value& value) {
    CpuConfig config;
    if (!value.is(Value::Kind::kString)) {
        if (auto done = read(value, config); !done) return std::unexpected(document.error(std::move(done).error()));
        return config;
    }
    const std::string text = TRY(read_file(value.text, limits::kMaxConfigFile));
    return TRY_CONTEXT(value.text, decode<CpuConfig>(parse_json(text)));
}

Result<VmConfig> apply(const Document& document, const MachineFile& file) {
    VmConfig config;
    config.boot_source = file.boot_source;
    config.logger = file.logger;
    config.metrics = file.metrics;
    config.serial = file.serial;
    if (file.machine) TRY_CONTEXT("machine-config", config.put_machine(*file.machine));
    if (file.cpu_config) config.put_cpu_config(TRY_CONTEXT("cpu-config", load_cpu_config(document, *file.cpu_config)));
    for (const Drive& drive : file.drives) TRY_CONTEXT("drive " + drive.drive_id, config.put_drive(drive));
    for (const NetworkInterface& interface : file.network_interfaces)
        TRY_CONTEXT("network interface " + interface.iface_id, config.put_network_interface(interface));
    if (file.vsock) TRY_CONTEXT("vsock", config.put_vsock(*file.vsock));
    if (file.mmds) TRY_CONTEXT("mmds-config", config.put_mmds(*file.mmds));
    return config;
}

}  // namespace

Decoded<> read(const Value& value, MachineFile& out) {
    // Firecracker takes any key at the top, and some clients write keys of their own with null in them. A key with
    // another value is likely to be a mistake.
    return read_object(value, {"VmmConfig", kFields, Schema::Unknown::kRefuseUnlessNull}, &out);
}

namespace {

Result<VmConfig> load(const std::string& path) {
    const std::string text = TRY_CONTEXT("machine file", read_file(path, limits::kMaxConfigFile));
    const Document document = is_toml(path, text) ? parse_toml(text) : parse_json(text);
    const MachineFile file = TRY_CONTEXT("machine file " + path, decode<MachineFile>(document));
    return TRY_CONTEXT("machine file " + path, apply(document, file));
}

}  // namespace

Result<VmConfig> load_config_file(const std::string& path) {
    auto loaded = load(path);
    // A message that quotes the file stays one line, without characters that control a terminal.
    if (!loaded)
        for (char& letter : loaded.error().message)
            if (static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f) letter = '?';
    return loaded;
}

}  // namespace wisp::config
