// SPDX-License-Identifier: Apache-2.0
//
// The configuration as GET /vm/config and GET /machine-config show it: Firecracker's keys in Firecracker's order.
// Wisp's own fields are shown only where they are set, so that a client that compares texts sees what it expects.
#include "vmm/config/json_writer.h"
#include "vmm/config/vm_config.h"

namespace wisp::config {

namespace {

void string_or_null(JsonWriter& out, const char* key, const std::optional<std::string>& text) {
    out.key(key);
    text ? out.string(*text) : out.null();
}

void member(JsonWriter& out, const char* key, const std::string& text) {
    out.key(key);
    out.string(text);
}

void member(JsonWriter& out, const char* key, bool value) {
    out.key(key);
    out.boolean(value);
}

void write_bucket(JsonWriter& out, const char* key, const std::optional<TokenBucketConfig>& bucket) {
    out.key(key);
    if (!bucket || !bucket->limits()) return out.null();
    out.begin_object();
    out.key("size");
    out.number(bucket->size);
    out.key("one_time_burst");
    bucket->one_time_burst ? out.number(*bucket->one_time_burst) : out.null();
    out.key("refill_time");
    out.number(bucket->refill_time_ms);
    out.end_object();
}

void write_limiter(JsonWriter& out, const char* key, const std::optional<RateLimiterConfig>& limiter) {
    out.key(key);
    if (!limiter || !limiter->limits()) return out.null();
    out.begin_object();
    write_bucket(out, "bandwidth", limiter->bandwidth);
    write_bucket(out, "ops", limiter->ops);
    out.end_object();
}

void write_drive(JsonWriter& out, const Drive& drive) {
    out.begin_object();
    member(out, "drive_id", drive.drive_id);
    string_or_null(out, "partuuid", drive.partuuid);
    member(out, "is_root_device", drive.is_root_device);
    member(out, "cache_type", std::string(drive.cache_type == CacheType::kUnsafe ? "Unsafe" : "Writeback"));
    member(out, "is_read_only", drive.is_read_only);
    member(out, "path_on_host", drive.path_on_host);
    write_limiter(out, "rate_limiter", drive.rate_limiter);
    member(out, "io_engine", std::string(drive.io_engine == IoEngine::kAsync ? "Async" : "Sync"));
    string_or_null(out, "socket", std::nullopt);
    if (drive.direct) member(out, "direct", true);
    out.end_object();
}

void write_interface(JsonWriter& out, const NetworkInterface& interface) {
    out.begin_object();
    member(out, "iface_id", interface.iface_id);
    member(out, "host_dev_name", interface.host_dev_name);
    out.key("guest_mac");
    interface.guest_mac ? out.string(to_string(*interface.guest_mac)) : out.null();
    out.key("mtu");
    interface.mtu ? out.number(*interface.mtu) : out.null();
    write_limiter(out, "rx_rate_limiter", interface.rx_rate_limiter);
    write_limiter(out, "tx_rate_limiter", interface.tx_rate_limiter);
    out.end_object();
}

void write_boot_source(JsonWriter& out, const BootSource& boot) {
    out.begin_object();
    member(out, "kernel_image_path", boot.kernel_image_path);
    string_or_null(out, "initrd_path", boot.initrd_path);
    string_or_null(out, "boot_args", boot.boot_args);
    out.end_object();
}

void write_machine(JsonWriter& out, const MachineConfig& machine) {
    static constexpr const char* kTemplates[] = {"None", "C3", "T2", "T2S", "T2CL", "T2A"};
    static constexpr const char* kHugePages[] = {"None", "Transparent", "2M"};
    out.begin_object();
    out.key("vcpu_count");
    out.number(machine.vcpu_count);
    out.key("mem_size_mib");
    out.number(machine.mem_size_mib);
    member(out, "smt", machine.smt);
    if (machine.cpu_template && *machine.cpu_template != CpuTemplateName::kNone)
        member(out, "cpu_template", std::string(kTemplates[static_cast<unsigned>(*machine.cpu_template)]));
    member(out, "track_dirty_pages", machine.track_dirty_pages);
    member(out, "huge_pages", std::string(kHugePages[static_cast<unsigned>(machine.huge_pages)]));
    out.end_object();
}

void write_mmds(JsonWriter& out, const MmdsConfig& mmds) {
    out.begin_object();
    member(out, "version", std::string(mmds.version == MmdsVersion::kV1 ? "V1" : "V2"));
    out.key("network_interfaces");
    out.begin_array();
    for (const std::string& id : mmds.network_interfaces) out.string(id);
    out.end_array();
    member(out, "ipv4_address", to_string(mmds.ipv4_address.value_or(Ipv4Address{169, 254, 169, 254})));
    member(out, "imds_compat", mmds.imds_compat);
    out.end_object();
}

void null_member(JsonWriter& out, const char* key) {
    out.key(key);
    out.null();
}

}  // namespace

std::string to_json(const MachineConfig& machine) {
    JsonWriter out;
    write_machine(out, machine);
    return out.take();
}

std::string VmConfig::to_json() const {
    JsonWriter out;
    out.begin_object();
    null_member(out, "balloon");
    out.key("drives");
    out.begin_array();
    for (const Drive& drive : drives) write_drive(out, drive);
    out.end_array();
    out.key("boot-source");
    write_boot_source(out, boot_source.value_or(BootSource{}));
    null_member(out, "cpu-config");  // Firecracker shows none of these three, set or not
    null_member(out, "logger");
    out.key("machine-config");
    write_machine(out, machine);
    null_member(out, "metrics");
    out.key("mmds-config");
    mmds ? write_mmds(out, *mmds) : out.null();
    out.key("network-interfaces");
    out.begin_array();
    for (const NetworkInterface& interface : network_interfaces) write_interface(out, interface);
    out.end_array();
    out.key("vsock");
    if (vsock) {
        out.begin_object();
        out.key("guest_cid");
        out.number(vsock->guest_cid);
        member(out, "uds_path", vsock->uds_path);
        out.end_object();
    } else {
        out.null();
    }
    null_member(out, "entropy");
    out.key("pmem");
    out.begin_array();
    out.end_array();
    null_member(out, "memory-hotplug");
    out.end_object();
    return out.take();
}

}  // namespace wisp::config
