// SPDX-License-Identifier: Apache-2.0
//
// MachineControl: the machine as control handles it. It owns the configuration, sends operations to the loop that runs
// the devices, and waits for each no longer than its deadline.
//
// Threads: control's, but for start_here().
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>

#include "base/mailbox.h"
#include "vmm/build/boot.h"
#include "vmm/machine.h"
#include "vmm/machine_driver.h"

namespace wisp {

class MachineControl {
public:
    using Handler = MachineDriver::Handler;

    /// `control` and `devices`: the loops of the two threads. `host.loop` is the devices'.
    MachineControl(Loop& control, MachineHost host);

    config::VmConfig& config() { return config_; }

    /// Takes over what was begun before the configuration was known.
    void set_begun(std::unique_ptr<build::Boot> boot) { boot_ = std::move(boot); }
    /// Where host programs find the guest already, for the next start.
    void set_vsock_listener(std::shared_ptr<UnixListener> listener) { host_.vsock_listener = std::move(listener); }
    /// What the guest finds in its metadata service; must outlive the machine.
    void set_metadata(const mmds::DataStore& metadata) { host_.metadata = &metadata; }

    /// On the devices' thread, before control has a thread: builds and starts the machine now.
    Result<void> start_here();

    void start(Handler done);
    void pause(Handler done);
    void resume(Handler done);
    void patch_drive(const config::DrivePatch& patch, Handler done);
    void patch_network_interface(const config::NetworkInterfacePatch& patch, Handler done);
    Result<void> send_ctrl_alt_del();

    /// The process is about to end: the operation under way has a moment to end, and the devices finish what may be
    /// finished. Calls `done` when they have, or at the deadline with an error that names what did not end.
    void close(Handler done);
    bool ending() const { return ending_; }
    void unlink_sockets();

    /// Null before the start. Its functions for any thread only.
    Machine* machine() const { return published_.load(std::memory_order_acquire); }
    /// When the building of the machine began, in nanoseconds of CLOCK_MONOTONIC.
    uint64_t build_start_ns() const { return build_start_ns_.load(std::memory_order_relaxed); }

private:
    using Work = std::move_only_function<void(Handler)>;

    /// Runs `work` on the devices' loop. `done` gets its outcome here; after `deadline_ns` (0: none) an error, and what
    /// comes later is dropped.
    void ask(const char* what, uint64_t deadline_ns, Work work, Handler done);
    /// The same while the process ends.
    void send(const char* what, uint64_t deadline_ns, Work work, Handler done);
    void answer(uint64_t number, Result<void> outcome);
    void on_deadline();
    void close_devices();

    MachineHost host_;
    config::VmConfig config_;
    Mailbox to_devices_, to_control_;

    // Of the operation under way.
    uint64_t number_ = 0;
    const char* what_ = "";
    Handler done_;
    Timer deadline_;
    bool ending_ = false;  // close() was called: no further operation begins
    Handler closed_;
    std::atomic<uint64_t> given_up_ = 0;  // operations up to this number, if not begun, are dropped

    // On the devices' thread.
    std::unique_ptr<build::Boot> boot_;
    std::unique_ptr<Machine> machine_;

    std::atomic<Machine*> published_ = nullptr;
    std::atomic<uint64_t> build_start_ns_ = 0;
};

}  // namespace wisp
