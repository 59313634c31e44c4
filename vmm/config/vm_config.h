// SPDX-License-Identifier: Apache-2.0
//
// VmConfig: the configuration of one machine before it starts, from a file or from the API, with the rules between
// resources (one root drive, no MAC address twice). It opens machine files and no others.
//
// A put_…() that fails leaves the configuration as it was. Messages are Firecracker's where its clients match them; the
// API adds its own prefix ("Drive config error: ").
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "vmm/config/resources.h"

namespace wisp::config {

struct VmConfig {
    MachineConfig machine;
    std::optional<BootSource> boot_source;
    std::vector<Drive> drives;  ///< in the order of their devices; the root drive is first
    std::vector<NetworkInterface> network_interfaces;
    std::optional<Vsock> vsock;
    std::optional<Logger> logger;
    std::optional<Metrics> metrics;
    std::optional<Serial> serial;
    std::optional<MmdsConfig> mmds;
    std::optional<CpuConfig> cpu_config;

    /// Without a cpu_template, the one that was chosen before stays.
    Result<void> put_machine(const MachineConfig& wanted);
    Result<void> patch_machine(const MachineConfigPatch& patch);

    /// Replaces a static template; a static template that is put later replaces it.
    void put_cpu_config(CpuConfig wanted);

    /// A drive of the same id is replaced.
    Result<void> put_drive(const Drive& drive);

    /// An interface of the same id is replaced.
    Result<void> put_network_interface(const NetworkInterface& interface);
    Result<void> put_vsock(const Vsock& wanted);

    /// The interfaces it names must exist.
    Result<void> put_mmds(const MmdsConfig& wanted);

    const Drive* root_drive() const;

    /// As GET /vm/config answers: compact JSON.
    std::string to_json() const;
};

/// As GET /machine-config answers: compact JSON.
std::string to_json(const MachineConfig& machine);

/// Firecracker's rule for the ids of drives and interfaces: letters, digits and underscores, at least one.
Result<void> check_resource_id(std::string_view id);

/// Its rule for the id of an instance: 1 to 64 letters, digits and hyphens.
Result<void> check_instance_id(std::string_view id);

/// Reads a machine file: TOML if its name ends in .toml, JSON if it ends in .json, otherwise JSON if the first byte
/// that is no blank is `{`. Errors name the file, and line and column where the text is at fault.
Result<VmConfig> load_config_file(const std::string& path);

}  // namespace wisp::config
