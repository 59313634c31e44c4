// SPDX-License-Identifier: Apache-2.0
//
// Each resource from its document: decode<Drive>(parse_json(body)). What the tables accept is what Firecracker accepts,
// plus the fields marked [Wisp] in resources.h; rules between fields and between resources are VmConfig's.
#pragma once

#include "vmm/config/decode.h"
#include "vmm/config/resources.h"

namespace wisp::config {

Result<void> read(const Value& value, TokenBucketConfig& out);
Result<void> read(const Value& value, RateLimiterConfig& out);
Result<void> read(const Value& value, HugePages& out);
Result<void> read(const Value& value, CpuTemplateName& out);
Result<void> read(const Value& value, MachineConfig& out);
Result<void> read(const Value& value, MachineConfigPatch& out);
Result<void> read(const Value& value, BootSource& out);
Result<void> read(const Value& value, Drive& out);
Result<void> read(const Value& value, DrivePatch& out);
Result<void> read(const Value& value, MacAddress& out);
Result<void> read(const Value& value, NetworkInterface& out);
Result<void> read(const Value& value, NetworkInterfacePatch& out);
Result<void> read(const Value& value, Vsock& out);
Result<void> read(const Value& value, Logger& out);
Result<void> read(const Value& value, Metrics& out);
Result<void> read(const Value& value, Serial& out);
Result<void> read(const Value& value, MmdsConfig& out);
Result<void> read(const Value& value, CpuidLeafModifier& out);
Result<void> read(const Value& value, MsrModifier& out);
Result<void> read(const Value& value, KvmCapability& out);
Result<void> read(const Value& value, CpuConfig& out);
Result<void> read(const Value& value, SnapshotCreate& out);
Result<void> read(const Value& value, MemoryBackend& out);
Result<void> read(const Value& value, NetworkOverride& out);
Result<void> read(const Value& value, VsockOverride& out);
Result<void> read(const Value& value, SnapshotLoad& out);
Result<void> read(const Value& value, Action& out);
Result<void> read(const Value& value, VmUpdate& out);

/// A string that is a path: as any string, only its name in messages differs.
Result<void> read_path(const Value& value, std::string& out);

}  // namespace wisp::config
