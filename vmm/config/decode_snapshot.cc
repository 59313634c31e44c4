// SPDX-License-Identifier: Apache-2.0
//
// What is asked of a machine rather than configured: actions, vm, snapshot/create, snapshot/load.
#include "vmm/config/decode_resources.h"

namespace wisp::config {

namespace {

template <class Enum, const auto& Names>
Decoded<> read_enum(const Value& value, Enum& out) {
    out = static_cast<Enum>(TRY(read_variant(value, Names)));
    return {};
}

constexpr const char* kSnapshotTypes[] = {"Diff", "Full"};
constexpr const char* kBackendTypes[] = {"File", "Uffd"};
constexpr const char* kHugePages[] = {"Snapshot", "None", "Transparent", "2M"};
constexpr const char* kActionTypes[] = {"FlushMetrics", "InstanceStart", "SendCtrlAltDel"};
constexpr const char* kWantedStates[] = {"Paused", "Resumed"};

constexpr Field kCreateFields[] = {
    with<&SnapshotCreate::snapshot_type, read_enum<SnapshotType, kSnapshotTypes>>("snapshot_type", false),
    with<&SnapshotCreate::snapshot_path, read_path>("snapshot_path", true),
    with<&SnapshotCreate::mem_file_path, read_path>("mem_file_path", true),
};

constexpr Field kBackendFields[] = {
    with<&MemoryBackend::backend_type, read_enum<MemoryBackendType, kBackendTypes>>("backend_type", true),
    with<&MemoryBackend::backend_path, read_path>("backend_path", true),
};

constexpr Field kNetworkOverrideFields[] = {
    required<&NetworkOverride::iface_id>("iface_id"),
    required<&NetworkOverride::host_dev_name>("host_dev_name"),
};

constexpr Field kVsockOverrideFields[] = {required<&VsockOverride::uds_path>("uds_path")};

constexpr Field kLoadFields[] = {
    with<&SnapshotLoad::snapshot_path, read_path>("snapshot_path", true),
    with<&SnapshotLoad::mem_file_path, read_path>("mem_file_path", false),
    optional<&SnapshotLoad::mem_backend>("mem_backend"),
    optional<&SnapshotLoad::enable_diff_snapshots>("enable_diff_snapshots"),
    optional<&SnapshotLoad::track_dirty_pages>("track_dirty_pages"),
    optional<&SnapshotLoad::resume_vm>("resume_vm"),
    optional<&SnapshotLoad::network_overrides>("network_overrides"),
    optional<&SnapshotLoad::vsock_override>("vsock_override"),
    optional<&SnapshotLoad::clock_realtime>("clock_realtime"),
    with<&SnapshotLoad::huge_pages, read_enum<SnapshotHugePages, kHugePages>>("huge_pages", false),
};

constexpr Field kActionFields[] = {
    with<&Action::action_type, read_enum<ActionType, kActionTypes>>("action_type", true)};
constexpr Field kVmFields[] = {with<&VmUpdate::state, read_enum<WantedState, kWantedStates>>("state", true)};

}  // namespace

Decoded<> read(const Value& value, SnapshotCreate& out) {
    return read_object(value, {"CreateSnapshotParams", kCreateFields}, &out);
}

Decoded<> read(const Value& value, MemoryBackend& out) {
    return read_object(value, {"MemBackendConfig", kBackendFields}, &out);
}

Decoded<> read(const Value& value, NetworkOverride& out) {
    return read_object(value, {"NetworkOverride", kNetworkOverrideFields, Schema::Unknown::kIgnore}, &out);
}

Decoded<> read(const Value& value, VsockOverride& out) {
    return read_object(value, {"VsockOverride", kVsockOverrideFields, Schema::Unknown::kIgnore}, &out);
}

Decoded<> read(const Value& value, SnapshotLoad& out) {
    return read_object(value, {"LoadSnapshotConfig", kLoadFields}, &out);
}

Decoded<> read(const Value& value, Action& out) {
    return read_object(value, {"ActionBody", kActionFields}, &out);
}

Decoded<> read(const Value& value, VmUpdate& out) {
    return read_object(value, {"Vm", kVmFields}, &out);
}

}  // namespace wisp::config
