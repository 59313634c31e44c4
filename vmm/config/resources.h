// SPDX-License-Identifier: Apache-2.0
//
// The resources of a machine as plain data, with Firecracker's field names: what a machine file or an API request says,
// decoded and checked for itself. Nothing is opened here, and nothing here knows the other resources (vm_config.h
// does).
//
// Fields marked [Wisp] are extensions: accepted in TOML, JSON and API bodies, unknown to Firecracker.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/token_bucket.h"
#include "virtio/block/config.h"
#include "vmm/config/value.h"

namespace wisp::config {

enum class HugePages : uint8_t { kNone, kTransparent, k2M };

/// Firecracker's static CPU templates (deprecated there, kept for its clients).
enum class CpuTemplateName : uint8_t { kNone, kC3, kT2, kT2S, kT2CL, kT2A };

struct MachineConfig {
    uint8_t vcpu_count = 1;  ///< 1 to 32
    uint64_t mem_size_mib = 128;
    bool smt = false;
    std::optional<CpuTemplateName> cpu_template = {};
    bool track_dirty_pages = false;
    HugePages huge_pages = HugePages::kNone;
};

/// PATCH /machine-config: only what is set changes.
struct MachineConfigPatch {
    std::optional<uint8_t> vcpu_count = {};
    std::optional<uint64_t> mem_size_mib = {};
    std::optional<bool> smt = {};
    std::optional<CpuTemplateName> cpu_template = {};
    std::optional<bool> track_dirty_pages = {};
    std::optional<HugePages> huge_pages = {};

    bool empty() const {
        return !vcpu_count && !mem_size_mib && !smt && !cpu_template && !track_dirty_pages && !huge_pages;
    }
};

struct BootSource {
    std::string kernel_image_path = {};
    std::optional<std::string> initrd_path = {};
    std::optional<std::string> boot_args = {};
};

using virtio::CacheType;
using virtio::IoEngine;

struct Drive {
    std::string drive_id = {};
    std::string path_on_host = {};  ///< required
    bool is_root_device = false;
    bool is_read_only = false;
    std::optional<std::string> partuuid = {};  ///< of the root partition; used only with is_root_device
    CacheType cache_type = CacheType::kUnsafe;
    IoEngine io_engine = IoEngine::kAsync;
    std::optional<std::string> socket = {};  ///< of a vhost-user back end; refused, see VmConfig::put_drive()
    bool direct = false;                     ///< [Wisp] O_DIRECT: bypass the host's page cache
    std::optional<RateLimiterConfig> rate_limiter = {};
};

/// PATCH /drives/{id}.
struct DrivePatch {
    std::string drive_id = {};
    std::optional<std::string> path_on_host = {};
    std::optional<RateLimiterConfig> rate_limiter = {};
};

using MacAddress = std::array<uint8_t, 6>;

/// "06:00:00:00:00:01"
std::string to_string(const MacAddress& mac);

struct NetworkInterface {
    std::string iface_id = {};
    std::string host_dev_name = {};  ///< the tap
    std::optional<MacAddress> guest_mac = {};
    std::optional<uint16_t> mtu = {};  ///< 68 to 65535; offered to the guest only if set
    std::optional<RateLimiterConfig> rx_rate_limiter = {};
    std::optional<RateLimiterConfig> tx_rate_limiter = {};
};

/// PATCH /network-interfaces/{id}.
struct NetworkInterfacePatch {
    std::string iface_id = {};
    std::optional<RateLimiterConfig> rx_rate_limiter = {};
    std::optional<RateLimiterConfig> tx_rate_limiter = {};
};

struct Vsock {
    uint32_t guest_cid = 0;  ///< ≥ 3
    std::string uds_path = {};
    std::optional<std::string> vsock_id = {};  ///< deprecated, kept to be shown
};

using LogLevel = log::Level;

struct Logger {
    std::optional<std::string> log_path = {};
    std::optional<LogLevel> level = {};
    std::optional<bool> show_level = {};
    std::optional<bool> show_log_origin = {};
    std::optional<std::string> module = {};
};

struct Metrics {
    std::string metrics_path = {};
    bool emit_id = false;
    std::vector<std::pair<std::string, std::string>> properties = {};
};

struct Serial {
    std::optional<std::string> serial_out_path = {};
    std::optional<TokenBucketConfig> rate_limiter = {};
};

/// The level of a name (case does not matter), or nothing.
std::optional<LogLevel> parse_log_level(std::string_view name);

enum class MmdsVersion : uint8_t { kV1, kV2 };

using Ipv4Address = std::array<uint8_t, 4>;

/// "169.254.169.254"
std::string to_string(const Ipv4Address& address);

struct MmdsConfig {
    std::vector<std::string> network_interfaces = {};  ///< ids of the interfaces that reach the data store
    MmdsVersion version = MmdsVersion::kV1;
    std::optional<Ipv4Address> ipv4_address = {};  ///< link-local; 169.254.169.254 if not set
    bool imds_compat = false;
};

/// A bit pattern over a register: bits of `filter` are replaced by those of `value`.
struct RegisterModifier {
    uint64_t filter = 0;
    uint64_t value = 0;

    uint64_t apply(uint64_t before) const { return (before & ~filter) | (value & filter); }
};

enum class CpuidRegister : uint8_t { kEax, kEbx, kEcx, kEdx };

struct CpuidLeafModifier {
    uint32_t leaf = 0;
    uint32_t subleaf = 0;
    uint32_t flags = 0;  ///< KVM_CPUID_FLAG_*
    std::vector<std::pair<CpuidRegister, RegisterModifier>> modifiers = {};
};

struct MsrModifier {
    uint32_t addr = 0;
    RegisterModifier bitmap;
};

struct KvmCapability {
    uint32_t number = 0;
    bool remove = false;  ///< "!121": do without it
};

/// PUT /cpu-config: a custom CPU template.
struct CpuConfig {
    std::vector<KvmCapability> kvm_capabilities = {};
    std::vector<CpuidLeafModifier> cpuid_modifiers = {};
    std::vector<MsrModifier> msr_modifiers = {};
};

enum class SnapshotType : uint8_t { kDiff, kFull };

/// PUT /snapshot/create.
struct SnapshotCreate {
    SnapshotType snapshot_type = SnapshotType::kFull;
    std::string snapshot_path = {};
    std::string mem_file_path = {};
};

enum class MemoryBackendType : uint8_t { kFile, kUffd };

struct MemoryBackend {
    MemoryBackendType backend_type = MemoryBackendType::kFile;
    std::string backend_path = {};  ///< of the memory file, or of the page fault handler's socket
};

struct NetworkOverride {
    std::string iface_id = {};
    std::string host_dev_name = {};
};

struct VsockOverride {
    std::string uds_path = {};
};

/// Page size of a restored machine: kSnapshot is what the snapshot had.
enum class SnapshotHugePages : uint8_t { kSnapshot, kNone, kTransparent, k2M };

/// PUT /snapshot/load. Exactly one of mem_file_path (deprecated) and mem_backend.
struct SnapshotLoad {
    std::string snapshot_path = {};
    std::optional<std::string> mem_file_path = {};
    std::optional<MemoryBackend> mem_backend = {};
    bool enable_diff_snapshots = false;  ///< deprecated name of track_dirty_pages
    bool track_dirty_pages = false;
    bool resume_vm = false;
    std::vector<NetworkOverride> network_overrides = {};
    std::optional<VsockOverride> vsock_override = {};
    bool clock_realtime = false;
    SnapshotHugePages huge_pages = SnapshotHugePages::kSnapshot;
};

enum class ActionType : uint8_t { kFlushMetrics, kInstanceStart, kSendCtrlAltDel };

/// PUT /actions.
struct Action {
    ActionType action_type = ActionType::kFlushMetrics;
};

enum class WantedState : uint8_t { kPaused, kResumed };

/// PATCH /vm.
struct VmUpdate {
    WantedState state = WantedState::kPaused;
};

}  // namespace wisp::config
