// SPDX-License-Identifier: Apache-2.0
//
// Each resource from its document: decode<Drive>(parse_json(body)). What the tables accept is what Firecracker accepts,
// plus the fields marked [Wisp] in resources.h; rules between fields and between resources are VmConfig's.
#pragma once

#include "vmm/config/decode.h"
#include "vmm/config/resources.h"

namespace wisp::config {

Decoded<> read(const Value& value, TokenBucketConfig& out);
Decoded<> read(const Value& value, RateLimiterConfig& out);
Decoded<> read(const Value& value, HugePages& out);
Decoded<> read(const Value& value, CpuTemplateName& out);
Decoded<> read(const Value& value, MachineConfig& out);
Decoded<> read(const Value& value, MachineConfigPatch& out);
Decoded<> read(const Value& value, BootSource& out);
Decoded<> read(const Value& value, Drive& out);
Decoded<> read(const Value& value, DrivePatch& out);
Decoded<> read(const Value& value, MacAddress& out);
Decoded<> read(const Value& value, NetworkInterface& out);
Decoded<> read(const Value& value, NetworkInterfacePatch& out);
Decoded<> read(const Value& value, Vsock& out);
Decoded<> read(const Value& value, Logger& out);
Decoded<> read(const Value& value, Metrics& out);
Decoded<> read(const Value& value, Serial& out);
Decoded<> read(const Value& value, MmdsConfig& out);
Decoded<> read(const Value& value, CpuidLeafModifier& out);
Decoded<> read(const Value& value, MsrModifier& out);
Decoded<> read(const Value& value, KvmCapability& out);
Decoded<> read(const Value& value, CpuConfig& out);
Decoded<> read(const Value& value, SnapshotCreate& out);
Decoded<> read(const Value& value, MemoryBackend& out);
Decoded<> read(const Value& value, NetworkOverride& out);
Decoded<> read(const Value& value, VsockOverride& out);
Decoded<> read(const Value& value, SnapshotLoad& out);
Decoded<> read(const Value& value, Action& out);
Decoded<> read(const Value& value, VmUpdate& out);

/// A string that is a path: as any string, only its name in messages differs.
Decoded<> read_path(const Value& value, std::string& out);

}  // namespace wisp::config
