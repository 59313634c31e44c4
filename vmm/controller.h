// SPDX-License-Identifier: Apache-2.0
//
// Controller: what an API client may do to the machine, and when. It holds the configuration until the machine starts,
// keeps the rules of before and after the start, and hands what the machine itself must do to a MachineDriver.
//
// Messages are whole fault messages, as the client gets them: Firecracker's words, its prefixes ("Drive config error:
// ") included.
//
// Threads: the loop's.
#pragma once

#include <expected>
#include <functional>
#include <string>

#include "base/result.h"
#include "vmm/config/vm_config.h"
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

/// The machine as the controller sees it. The monitor implements it; tests have one that only takes notes.
///
/// Errors are told without the API's prefixes. Methods with a handler may call it at once or later, on the loop; the
/// controller calls nothing else until then.
class MachineDriver {
public:
    using Handler = std::move_only_function<void(Result<void>)>;

    /// Builds the machine and lets it run. A failure leaves nothing behind: it may be tried again.
    virtual void start(const config::VmConfig& config, Handler done) = 0;
    virtual void pause(Handler done) = 0;
    virtual void resume(Handler done) = 0;

    /// Only while paused.
    virtual void create_snapshot(const config::SnapshotCreate& request, Handler done) = 0;
    /// Restores the machine, paused, and tells its configuration; resuming it is asked for by resume(). After a failure
    /// the process ends.
    virtual void load_snapshot(const config::SnapshotLoad& request,
                               std::move_only_function<void(Result<config::VmConfig>)> done) = 0;

    /// The drive exists. A new path is opened and its size told to the guest; limiters that are not given stay.
    virtual Result<void> patch_drive(const config::DrivePatch& patch) = 0;
    /// The interface exists.
    virtual Result<void> patch_network_interface(const config::NetworkInterfacePatch& patch) = 0;

    virtual Result<void> send_ctrl_alt_del() = 0;
    virtual Result<void> flush_metrics() = 0;

    /// Listens where host programs will find the guest, instead of where it may have before.
    virtual Result<void> listen_for_vsock(const config::Vsock& vsock) = 0;

    /// These two take effect at once, before the start.
    virtual Result<void> configure_logger(const config::Logger& logger) = 0;
    virtual Result<void> configure_metrics(const config::Metrics& metrics) = 0;

    /// How long one of these took, from the request to when it was done.
    enum class Operation : uint8_t { kPause, kResume, kFullSnapshot, kDiffSnapshot, kLoadSnapshot };
    static constexpr size_t kOperations = 5;
    virtual void took(Operation, uint64_t /*us*/) {}

protected:
    ~MachineDriver() = default;
};

class Controller {
public:
    /// `mmds_limit`: bytes of the metadata store's JSON text.
    Controller(std::string id, MachineDriver& driver, size_t mmds_limit)
        : id_(std::move(id)), driver_(driver), mmds_(mmds_limit) {}

    /// The machine was started from a file rather than by a client.
    void adopt(config::VmConfig config, VmState state);

    VmState state() const { return state_; }
    const std::string& id() const { return id_; }
    const config::VmConfig& config() const { return config_; }
    mmds::DataStore& mmds() { return mmds_; }

    // What GET shows: JSON.
    std::string instance_info() const;
    std::string version() const;
    std::string vm_config() const { return config_.to_json(); }
    std::string machine_config() const { return config::to_json(config_.machine); }
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
    Outcome<> patch_drive(const config::DrivePatch& patch);
    Outcome<> patch_network_interface(const config::NetworkInterfacePatch& patch);
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
    config::VmConfig config_;
    mmds::DataStore mmds_;
    bool boot_configured_ = false;  ///< something was set that a snapshot brings along
};

}  // namespace wisp
