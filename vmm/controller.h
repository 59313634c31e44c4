// SPDX-License-Identifier: Apache-2.0
//
// Controller: what an API client may do to the machine, and when. It keeps the rules of before and after the start, and
// hands what the machine itself must do to a MachineDriver, which owns the configuration.
//
// Messages are whole fault messages, as the client gets them: Firecracker's words, its prefixes ("Drive config error:
// ") included.
//
// Threads: control's.
#pragma once

#include <expected>
#include <functional>
#include <string>

#include "base/result.h"
#include "vmm/config/vm_config.h"
#include "vmm/machine_driver.h"
#include "vmm/mmds/data_store.h"

namespace wisp {

enum class VmState : uint8_t { kNotStarted, kRunning, kPaused };

/// Why a request was refused.
struct Fault {
    std::string message;
    int status = 400;    ///< of the HTTP answer
    bool fatal = false;  ///< the process cannot go on: it answers, and ends with ExitCode::kGenericError
};

template <class T = void>
using Outcome = std::expected<T, Fault>;

/// Called once, at once or later, on the loop.
using OutcomeHandler = std::move_only_function<void(Outcome<>)>;

class Controller {
public:
    /// `mmds_limit`: bytes of the metadata store's JSON text.
    Controller(std::string id, MachineDriver& driver, size_t mmds_limit)
        : id_(std::move(id)), driver_(driver), mmds_(mmds_limit) {}

    /// The machine was started from a file rather than by a client.
    void adopt_running_machine() { state_ = VmState::kRunning; }

    VmState state() const { return state_; }
    const std::string& id() const { return id_; }
    const config::VmConfig& config() const { return driver_.config(); }
    mmds::DataStore& mmds() { return mmds_; }

    // What GET shows: JSON.
    std::string instance_info() const;
    std::string version() const;
    std::string vm_config() const { return config().to_json(); }
    std::string machine_config() const { return config::to_json(config().machine); }
    Outcome<std::string> mmds_data() const;

    // Before the start.
    Outcome<> put_machine(const config::MachineConfig& machine);
    Outcome<> patch_machine(const config::MachineConfigPatch& patch);
    Outcome<> put_cpu_config(config::CpuConfig cpu_config);
    Outcome<> put_boot_source(const config::BootSource& boot_source);
    Outcome<> put_drive(const config::Drive& drive);
    Outcome<> put_network_interface(const config::NetworkInterface& interface);
    Outcome<> put_vsock(const config::Vsock& vsock);
    Outcome<> put_logger(const config::Logger& logger);
    Outcome<> put_metrics(const config::Metrics& metrics);
    Outcome<> put_serial(const config::Serial& serial);
    Outcome<> put_mmds_config(const config::MmdsConfig& mmds);
    void start(OutcomeHandler done);
    void load_snapshot(const config::SnapshotLoad& request, OutcomeHandler done);

    // After it.
    void patch_drive(const config::DrivePatch& patch, OutcomeHandler done);
    void patch_network_interface(const config::NetworkInterfacePatch& patch, OutcomeHandler done);
    Outcome<> flush_metrics();
    Outcome<> send_ctrl_alt_del();
    void pause(OutcomeHandler done);
    void resume(OutcomeHandler done);
    void create_snapshot(const config::SnapshotCreate& request, OutcomeHandler done);

    /// A device that only a PCI transport could take away or add while the machine runs.
    Outcome<> refuse_hot_plug() const;

    // At any time.
    Outcome<> put_mmds_data(config::Value data);
    Outcome<> patch_mmds_data(config::Value patch);

private:
    Outcome<> before_start() const;
    Outcome<> after_start() const;
    Outcome<> mmds_at_hand() const;
    OutcomeHandler timed(MachineDriver::Operation operation, OutcomeHandler done);

    const std::string id_;
    MachineDriver& driver_;
    VmState state_ = VmState::kNotStarted;
    mmds::DataStore mmds_;
    bool boot_configured_ = false;  ///< something was set that a snapshot brings along
};

}  // namespace wisp
