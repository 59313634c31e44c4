// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/vm_config.h"

#include <algorithm>

#include "base/limits.h"

namespace wisp::config {

namespace {

bool letter_or_digit(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

Result<void> check_machine(const MachineConfig& machine) {
    const unsigned vcpus = machine.vcpu_count;
    if (vcpus == 0 || vcpus > limits::kMaxVcpus || (machine.smt && vcpus > 1 && vcpus % 2 != 0))
        return fail(
            "The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even number if SMT is "
            "enabled.");
    const bool huge = machine.huge_pages != HugePages::kNone;
    if (machine.mem_size_mib == 0 || (huge && machine.mem_size_mib % 2 != 0))
        return fail("The memory size (MiB) is either 0, or not a multiple of the configured page size.");
    if (machine.mem_size_mib > limits::kMaxMemoryMib)
        return fail("The memory size of %llu MiB is more than a guest can have: %llu MiB.",
                    static_cast<unsigned long long>(machine.mem_size_mib),
                    static_cast<unsigned long long>(limits::kMaxMemoryMib));
    return {};
}

bool link_local(const Ipv4Address& address) {
    // RFC 3927, section 2.1: the first and the last 256 addresses of 169.254/16 are reserved.
    return address[0] == 169 && address[1] == 254 && address[2] >= 1 && address[2] <= 254;
}

}  // namespace

Result<void> check_resource_id(std::string_view id) {
    if (id.empty()) return fail("The ID cannot be empty.");
    if (!std::all_of(id.begin(), id.end(), [](char c) { return letter_or_digit(c) || c == '_'; }))
        return fail("API Resource IDs can only contain alphanumeric characters and underscores.");
    return {};
}

Result<void> check_instance_id(std::string_view id) {
    if (id.empty() || id.size() > 64)
        return fail("Invalid instance ID: it has %zu characters, and must have 1 to 64", id.size());
    for (const char c : id)
        if (!letter_or_digit(c) && c != '-')
            return fail("Invalid instance ID: only letters, digits and hyphens may be in it, not '%c'", c);
    return {};
}

Result<void> VmConfig::put_machine(const MachineConfig& wanted) {
    TRY(check_machine(wanted));
    const std::optional<CpuTemplateName> previous = machine.cpu_template;
    machine = wanted;
    if (wanted.cpu_template)
        cpu_config.reset();  // of the two kinds of template, the later one holds
    else
        machine.cpu_template = previous;
    return {};
}

void VmConfig::put_cpu_config(CpuConfig wanted) {
    cpu_config = std::move(wanted);
    machine.cpu_template.reset();
}

Result<void> VmConfig::patch_machine(const MachineConfigPatch& patch) {
    MachineConfig wanted = machine;
    wanted.vcpu_count = patch.vcpu_count.value_or(wanted.vcpu_count);
    wanted.mem_size_mib = patch.mem_size_mib.value_or(wanted.mem_size_mib);
    wanted.smt = patch.smt.value_or(wanted.smt);
    wanted.cpu_template = patch.cpu_template;
    wanted.track_dirty_pages = patch.track_dirty_pages.value_or(wanted.track_dirty_pages);
    wanted.huge_pages = patch.huge_pages.value_or(wanted.huge_pages);
    return put_machine(wanted);
}

Result<void> VmConfig::put_drive(const Drive& drive) {
    TRY(check_resource_id(drive.drive_id));
    if (drive.socket)
        return fail("Drive %s names a `socket`: Wisp leaves vhost-user drives out by design; give `path_on_host`.",
                    drive.drive_id.c_str());
    if (drive.path_on_host.empty()) return fail("Unable to create the virtio block device: Invalid block config.");
    const Drive* const root = root_drive();
    if (drive.is_root_device && root && root->drive_id != drive.drive_id)
        return fail("A root block device already exists!");

    auto place = std::find_if(drives.begin(), drives.end(),
                              [&](const Drive& other) { return other.drive_id == drive.drive_id; });
    if (place == drives.end())
        place = drives.insert(drives.end(), drive);
    else
        *place = drive;
    if (drive.is_root_device) std::rotate(drives.begin(), place, place + 1);  // first, so that it is /dev/vda
    return {};
}

Result<void> VmConfig::put_network_interface(const NetworkInterface& interface) {
    TRY(check_resource_id(interface.iface_id));
    if (interface.mtu && *interface.mtu < 68)
        return fail("Could not create the network device: MTU %u is out of range [68, 65535]", *interface.mtu);
    if (interface.host_dev_name.size() >= 16)  // IFNAMSIZ with its final zero
        return fail("Could not create the network device: Open tap device failed: Invalid interface name");
    NetworkInterface* same = nullptr;
    for (NetworkInterface& other : network_interfaces) {
        if (other.iface_id == interface.iface_id)
            same = &other;
        else if (interface.guest_mac && other.guest_mac == interface.guest_mac)
            return fail("The MAC address is already in use: %s", to_string(*interface.guest_mac).c_str());
        else if (!interface.host_dev_name.empty() && other.host_dev_name == interface.host_dev_name)
            return fail("Could not create the network device: tap %s is already that of interface %s",
                        interface.host_dev_name.c_str(), other.iface_id.c_str());
    }
    if (same)
        *same = interface;
    else
        network_interfaces.push_back(interface);
    return {};
}

Result<void> VmConfig::put_vsock(const Vsock& wanted) {
    if (wanted.guest_cid < 3)
        return fail("guest_cid is %u, and must be 3 or more: the lower ones are reserved", wanted.guest_cid);
    if (wanted.uds_path.empty()) return fail("uds_path is empty");
    vsock = wanted;
    return {};
}

Result<void> VmConfig::put_mmds(const MmdsConfig& wanted) {
    if (wanted.network_interfaces.empty())
        return fail("The list of network interface IDs that allow forwarding MMDS requests is empty.");
    for (const std::string& id : wanted.network_interfaces)
        if (std::none_of(network_interfaces.begin(), network_interfaces.end(),
                         [&](const auto& other) { return other.iface_id == id; }))
            return fail(
                "The list of network interface IDs provided contains at least one ID that does not correspond to any "
                "existing "
                "network interface.");
    if (wanted.ipv4_address && !link_local(*wanted.ipv4_address))
        return fail("The MMDS IPv4 address is not link local.");
    mmds = wanted;
    return {};
}

const Drive* VmConfig::root_drive() const {
    for (const Drive& drive : drives)
        if (drive.is_root_device) return &drive;
    return nullptr;
}

}  // namespace wisp::config
