// SPDX-License-Identifier: Apache-2.0
//
// MachineDriver: the machine as the controller sees it. MachineControl implements it; tests have one that only takes
// notes.
//
// Threads: control's. Handlers are called there too, at once or later.
#pragma once

#include <functional>

#include "base/result.h"
#include "vmm/config/vm_config.h"

namespace wisp {

class MachineDriver {
public:
    using Handler = std::move_only_function<void(Result<void>)>;

    /// The configuration, which has no other owner: the controller changes it before the start, and the driver after
    /// it, when a change has been made.
    virtual config::VmConfig& config() = 0;

    /// The process is about to end: nothing is changed any more.
    virtual bool ending() const { return false; }

    // Operations of the machine. The controller asks for one at a time. Errors are told without the API's prefixes. An
    // operation that is not done by its deadline is undone, and its error names what did not stop.

    /// Builds the machine and lets it run. A failure leaves nothing behind: it may be tried again.
    virtual void start(Handler done) = 0;
    virtual void pause(Handler done) = 0;
    virtual void resume(Handler done) = 0;
    /// Only while paused.
    virtual void create_snapshot(const config::SnapshotCreate& request, Handler done) = 0;
    /// Restores the machine, paused, with its configuration; resuming it is asked for by resume(). After a failure the
    /// process ends.
    virtual void load_snapshot(const config::SnapshotLoad& request, Handler done) = 0;
    /// The drive exists. A new path is opened and its size told to the guest; limiters that are not given stay.
    virtual void patch_drive(const config::DrivePatch& patch, Handler done) = 0;
    /// The interface exists.
    virtual void patch_network_interface(const config::NetworkInterfacePatch& patch, Handler done) = 0;

    // What is done at once.

    virtual Result<void> send_ctrl_alt_del() = 0;
    virtual Result<void> flush_metrics() = 0;
    /// Listens where host programs will find the guest, instead of where it may have before.
    virtual Result<void> listen_for_vsock(const config::Vsock& vsock) = 0;
    virtual Result<void> configure_logger(const config::Logger& logger) = 0;
    virtual Result<void> configure_metrics(const config::Metrics& metrics) = 0;

    /// How long one of these took, from the request to when it was done.
    enum class Operation : uint8_t { kPause, kResume, kFullSnapshot, kDiffSnapshot, kLoadSnapshot };
    static constexpr size_t kOperations = 5;
    virtual void took(Operation, uint64_t /*us*/) {}

protected:
    ~MachineDriver() = default;
};

}  // namespace wisp
