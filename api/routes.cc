// SPDX-License-Identifier: Apache-2.0
#include "api/routes.h"

#include <algorithm>
#include <iterator>

namespace wisp::api {

namespace {

using namespace config;

void get_instance(Call call) {
    call.reply_json(call.controller.instance_info());
}
void get_version(Call call) {
    call.reply_json(call.controller.version());
}
void get_machine(Call call) {
    call.reply_json(call.controller.machine_config());
}

void get_vm_config(Call call) {
    call.reply_json(call.controller.vm_config());
}

void put_machine(Call call) {
    const auto machine = call.body<MachineConfig>();
    if (!machine) return;
    if (machine->cpu_template) call.deprecate("PUT /machine-config: cpu_template field is deprecated.");
    call.reply(call.controller.put_machine(*machine));
}

void patch_machine(Call call) {
    const auto patch = call.body<MachineConfigPatch>();
    if (!patch) return;
    if (patch->empty()) return call.refuse("Empty PATCH request.");
    if (patch->cpu_template) call.deprecate("PATCH /machine-config: cpu_template field is deprecated.");
    call.reply(call.controller.patch_machine(*patch));
}

void put_cpu_config(Call call) {
    auto cpu_config = call.body<CpuConfig>();
    if (cpu_config) call.reply(call.controller.put_cpu_config(*std::move(cpu_config)));
}

void put_boot_source(Call call) {
    const auto boot_source = call.body<BootSource>();
    if (boot_source) call.reply(call.controller.put_boot_source(*boot_source));
}

void put_drive(Call call) {
    if (!call.has_id()) return;
    const auto drive = call.body<Drive>();
    if (!drive) return;
    if (drive->drive_id != call.path[1])
        return call.refuse("The id from the path does not match the id from the body!");
    call.reply(call.controller.put_drive(*drive));
}

void patch_drive(Call call) {
    if (!call.has_id()) return;
    const auto patch = call.body<DrivePatch>();
    if (!patch) return;
    if (patch->drive_id != call.path[1])
        return call.refuse("The id from the path does not match the id from the body!");
    Controller& controller = call.controller;
    controller.patch_drive(*patch, std::move(call).later());
}

/// Interfaces tell which ids they are that differ.
bool same_id(Call& call, const std::string& id) {
    if (id == call.path[1]) return true;
    call.refuse(format("The id from the path [%s] does not match the id from the body [%s]!", call.path[1].c_str(),
                       id.c_str()));
    return false;
}

void put_network_interface(Call call) {
    if (!call.has_id()) return;
    const auto interface = call.body<NetworkInterface>();
    if (interface && same_id(call, interface->iface_id)) call.reply(call.controller.put_network_interface(*interface));
}

void patch_network_interface(Call call) {
    if (!call.has_id()) return;
    const auto patch = call.body<NetworkInterfacePatch>();
    if (!patch || !same_id(call, patch->iface_id)) return;
    Controller& controller = call.controller;
    controller.patch_network_interface(*patch, std::move(call).later());
}

void hot_unplug(Call call) {
    if (call.has_id()) call.reply(call.controller.refuse_hot_plug());
}

void put_vsock(Call call) {
    const auto vsock = call.body<Vsock>();
    if (!vsock) return;
    if (vsock->vsock_id) call.deprecate("PUT /vsock: vsock_id field is deprecated.");
    call.reply(call.controller.put_vsock(*vsock));
}

void put_logger(Call call) {
    const auto logger = call.body<Logger>();
    if (logger) call.reply(call.controller.put_logger(*logger));
}

void put_metrics(Call call) {
    const auto metrics = call.body<Metrics>();
    if (metrics) call.reply(call.controller.put_metrics(*metrics));
}

void put_serial(Call call) {
    const auto serial = call.body<Serial>();
    if (serial) call.reply(call.controller.put_serial(*serial));
}

void put_action(Call call) {
    const auto action = call.body<Action>();
    if (!action) return;
    Controller& controller = call.controller;
    switch (action->action_type) {
        case ActionType::kInstanceStart:
            return controller.start(std::move(call).later());
        case ActionType::kFlushMetrics:
            return call.reply(controller.flush_metrics());
        case ActionType::kSendCtrlAltDel:
            return call.reply(controller.send_ctrl_alt_del());
    }
}

void patch_vm(Call call) {
    const auto update = call.body<VmUpdate>();
    if (!update) return;
    Controller& controller = call.controller;
    if (update->state == WantedState::kPaused) return controller.pause(std::move(call).later());
    controller.resume(std::move(call).later());
}

void create_snapshot(Call call) {
    const auto request = call.body<SnapshotCreate>();
    Controller& controller = call.controller;
    if (request) controller.create_snapshot(*request, std::move(call).later());
}

void load_snapshot(Call call) {
    auto request = call.body<SnapshotLoad>();
    if (!request) return;
    const std::string either = "either `mem_backend` or `mem_file_path` ";
    if (!request->mem_backend && !request->mem_file_path)
        return call.refuse_body("missing field: " + either + "is required");
    if (request->mem_backend && request->mem_file_path)
        return call.refuse_body("too many fields: " + either + "exclusively is required");
    if (request->mem_file_path || request->enable_diff_snapshots)
        call.deprecate("PUT /snapshot/load: mem_file_path and enable_diff_snapshots fields are deprecated.");
    request->track_dirty_pages |= request->enable_diff_snapshots;
    Controller& controller = call.controller;
    controller.load_snapshot(*request, std::move(call).later());
}

/// /snapshot without an operation, or with one that does not exist.
void refuse_snapshot(Call call) {
    if (call.path.size() < 2) return call.refuse("Missing snapshot operation type.");
    call.refuse(format("Invalid request method and/or path: PUT %s.", call.request.path.c_str()));
}

void get_mmds(Call call) {
    auto data = call.controller.mmds_data();
    if (data) return call.reply_json(*std::move(data));
    call.reply(Outcome<>(std::unexpected(std::move(data).error())));
}

void put_mmds_config(Call call) {
    const auto mmds = call.body<MmdsConfig>();
    if (!mmds) return;
    if (mmds->version == MmdsVersion::kV1) call.deprecate("PUT /mmds/config: V1 is deprecated. Use V2 instead.");
    call.reply(call.controller.put_mmds_config(*mmds));
}

void put_mmds(Call call) {
    if (call.path.size() > 1) return call.refuse(format("Unrecognized PUT request path `%s`.", call.path[1].c_str()));
    auto data = parse_json_strict(call.request.body);
    if (!data) return call.refuse_body(data.error().message);
    call.reply(call.controller.put_mmds_data(*std::move(data)));
}

void patch_mmds(Call call) {
    auto patch = parse_json_strict(call.request.body);
    if (!patch) return call.refuse_body(patch.error().message);
    call.reply(call.controller.patch_mmds_data(*std::move(patch)));
}

// Devices that Wisp leaves out: the name, and what a client may do instead.
struct LeftOut {
    const char* device;
    const char* instead;
};
constexpr LeftOut kBalloon = {"balloon device", "memory that the guest has not touched costs the host nothing"};
constexpr LeftOut kEntropy = {"entropy device", "the guest seeds its random pool from the CPU's RDRAND"};
constexpr LeftOut kPmem = {"pmem device",
                           "a read-only drive shares the host's page cache among all VMs that use its file"};
constexpr LeftOut kMemoryHotplug = {
    "memory hotplug device",
    "set mem_size_mib to the most that the guest may need, since untouched memory costs nothing"};

template <const LeftOut& Device>
void left_out(Call call) {
    call.refuse(format("Wisp leaves the %s out by design: it has block, net and vsock devices only; %s.", Device.device,
                       Device.instead));
}

constexpr Route kRoutes[] = {
    {Method::kGet, "", get_instance, "instance_info"},
    {Method::kGet, "version", get_version, "vmm_version"},
    {Method::kGet, "vm/config", get_vm_config},
    {Method::kPatch, "vm", patch_vm},
    {Method::kPut, "actions", put_action, "actions"},
    {Method::kGet, "machine-config", get_machine, "machine_cfg"},
    {Method::kPut, "machine-config", put_machine, "machine_cfg"},
    {Method::kPatch, "machine-config", patch_machine, "machine_cfg"},
    {Method::kPut, "cpu-config", put_cpu_config, "cpu_cfg", BodyLog::kDebug},
    {Method::kPut, "boot-source", put_boot_source, "boot_source"},
    {Method::kPut, "drives", put_drive, "drive"},
    {Method::kPatch, "drives", patch_drive, "drive"},
    {Method::kDelete, "drives", hot_unplug},
    {Method::kPut, "network-interfaces", put_network_interface, "network"},
    {Method::kPatch, "network-interfaces", patch_network_interface, "network"},
    {Method::kDelete, "network-interfaces", hot_unplug},
    {Method::kPut, "vsock", put_vsock, "vsock"},
    {Method::kPut, "logger", put_logger, "logger"},
    {Method::kPut, "metrics", put_metrics, "metrics"},
    {Method::kPut, "serial", put_serial, "serial"},
    {Method::kPut, "snapshot/create", create_snapshot},
    {Method::kPut, "snapshot/load", load_snapshot},
    {Method::kPut, "snapshot", refuse_snapshot},
    {Method::kGet, "mmds", get_mmds, "mmds"},
    {Method::kPut, "mmds/config", put_mmds_config, "mmds"},
    {Method::kPut, "mmds", put_mmds, "mmds", BodyLog::kHidden},
    {Method::kPatch, "mmds", patch_mmds, "mmds", BodyLog::kHidden},

    {Method::kGet, "balloon", left_out<kBalloon>},
    {Method::kPut, "balloon", left_out<kBalloon>},
    {Method::kPatch, "balloon", left_out<kBalloon>},
    {Method::kPut, "entropy", left_out<kEntropy>},
    {Method::kPut, "pmem", left_out<kPmem>},
    {Method::kPatch, "pmem", left_out<kPmem>},
    {Method::kDelete, "pmem", left_out<kPmem>},
    {Method::kGet, "hotplug/memory", left_out<kMemoryHotplug>},
    {Method::kPut, "hotplug/memory", left_out<kMemoryHotplug>},
    {Method::kPatch, "hotplug/memory", left_out<kMemoryHotplug>},
};

}  // namespace

const Route* find_route(Method method, std::span<const std::string> segments) {
    const auto matches = [&](const Route& route) {
        const std::string_view path = route.path;
        const size_t slash = path.find('/');
        if (route.method != method || segments[0] != path.substr(0, slash)) return false;
        return slash == std::string_view::npos || (segments.size() > 1 && segments[1] == path.substr(slash + 1));
    };
    const Route* const found = std::find_if(std::begin(kRoutes), std::end(kRoutes), matches);
    return found == std::end(kRoutes) ? nullptr : found;
}

}  // namespace wisp::api
