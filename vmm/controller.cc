// SPDX-License-Identifier: Apache-2.0
#include "vmm/controller.h"

#include <algorithm>

#include "base/check.h"
#include "base/loop.h"
#include "base/version.h"
#include "vmm/config/json_writer.h"
#include "vmm/preflight.h"

namespace wisp {

namespace {

Outcome<> refuse(std::string message, int status = 400) {
    return std::unexpected(Fault{std::move(message), status});
}

/// A Result as an Outcome: the error becomes "<prefix><message>".
Outcome<> with_prefix(const char* prefix, Result<void> result) {
    if (result) return {};
    return refuse(prefix + result.error().message);
}

Outcome<> mmds_outcome(Result<void> result) {
    if (result) return {};
    const bool too_large = result.error().errno_value == EFBIG;
    return refuse((too_large ? "MMDS limit exceeded error: " : "MMDS error: ") + result.error().message,
                  too_large ? 413 : 400);
}

/// Limits that a patch leaves out stay as they are.
void merge(std::optional<RateLimiterConfig>& limiter, const std::optional<RateLimiterConfig>& patch) {
    if (!patch) return;
    RateLimiterConfig merged = limiter.value_or(RateLimiterConfig{});
    if (patch->bandwidth) merged.bandwidth = patch->bandwidth;
    if (patch->ops) merged.ops = patch->ops;
    limiter = merged;
}

template <class List, class Id>
auto* find(List& list, Id id, const std::string& wanted) {
    const auto found = std::find_if(list.begin(), list.end(), [&](const auto& item) { return item.*id == wanted; });
    return found == list.end() ? nullptr : &*found;
}

}  // namespace

// In a function that returns an Outcome: return the fault, if there is one.
#define REQUIRE_OUTCOME(...)                                           \
    do {                                                               \
        if (auto outcome_ = (__VA_ARGS__); !outcome_) return outcome_; \
    } while (false)

Outcome<> Controller::before_start() const {
    if (driver_.ending()) return refuse("The microVM is ending.");
    if (state_ == VmState::kNotStarted) return {};
    return refuse("The requested operation is not supported after starting the microVM.");
}

Outcome<> Controller::after_start() const {
    if (driver_.ending()) return refuse("The microVM is ending.");
    if (state_ != VmState::kNotStarted) return {};
    return refuse("The requested operation is not supported before starting the microVM.");
}

Outcome<> Controller::refuse_hot_plug() const {
    REQUIRE_OUTCOME(after_start());
    return refuse("PCI is not enabled");
}

std::string Controller::instance_info() const {
    static constexpr const char* kStates[] = {"Not started", "Running", "Paused"};
    config::JsonWriter out;
    out.begin_object();
    out.key("id");
    out.string(id_);
    out.key("state");
    out.string(kStates[static_cast<unsigned>(state_)]);
    out.key("vmm_version");
    out.string(kFirecrackerVersion);
    out.key("app_name");
    out.string("Firecracker");
    out.end_object();
    return out.take();
}

std::string Controller::version() const {
    config::JsonWriter out;
    out.begin_object();
    out.key("firecracker_version");
    out.string(kFirecrackerVersion);
    out.key("wisp_version");
    out.string(kWispVersion);
    out.end_object();
    return out.take();
}

Outcome<> Controller::put_machine(const config::MachineConfig& machine) {
    REQUIRE_OUTCOME(before_start());
    boot_configured_ = true;
    return with_prefix("Machine config error: ", driver_.config().put_machine(machine));
}

Outcome<> Controller::patch_machine(const config::MachineConfigPatch& patch) {
    REQUIRE_OUTCOME(before_start());
    boot_configured_ = true;
    return with_prefix("Machine config error: ", driver_.config().patch_machine(patch));
}

Outcome<> Controller::put_cpu_config(config::CpuConfig cpu_config) {
    REQUIRE_OUTCOME(before_start());
    driver_.config().put_cpu_config(std::move(cpu_config));
    return {};
}

Outcome<> Controller::put_boot_source(const config::BootSource& boot_source) {
    REQUIRE_OUTCOME(before_start());
    boot_configured_ = true;
    REQUIRE_OUTCOME(with_prefix("Boot source error: ", check_boot_files(boot_source)));
    driver_.config().boot_source = boot_source;
    return {};
}

Outcome<> Controller::put_drive(const config::Drive& drive) {
    if (state_ != VmState::kNotStarted) return refuse_hot_plug();
    REQUIRE_OUTCOME(before_start());
    boot_configured_ = true;
    config::VmConfig next = config();
    REQUIRE_OUTCOME(with_prefix("Drive config error: ", next.put_drive(drive)));
    REQUIRE_OUTCOME(with_prefix("Drive config error: ", check_drive_file(drive)));
    driver_.config() = std::move(next);
    return {};
}

Outcome<> Controller::put_network_interface(const config::NetworkInterface& interface) {
    if (state_ != VmState::kNotStarted) return refuse_hot_plug();
    REQUIRE_OUTCOME(before_start());
    boot_configured_ = true;
    config::VmConfig next = config();
    REQUIRE_OUTCOME(with_prefix("Network config error: ", next.put_network_interface(interface)));
    REQUIRE_OUTCOME(with_prefix("Network config error: ", check_tap(interface.host_dev_name)));
    driver_.config() = std::move(next);
    return {};
}

Outcome<> Controller::put_vsock(const config::Vsock& vsock) {
    REQUIRE_OUTCOME(before_start());
    boot_configured_ = true;
    config::VmConfig next = config();
    REQUIRE_OUTCOME(with_prefix("Vsock config error: ", next.put_vsock(vsock)));
    REQUIRE_OUTCOME(with_prefix("Vsock config error: ", driver_.listen_for_vsock(vsock)));
    driver_.config() = std::move(next);
    return {};
}

Outcome<> Controller::put_logger(const config::Logger& logger) {
    REQUIRE_OUTCOME(before_start());
    REQUIRE_OUTCOME(with_prefix("Logger error: ", driver_.configure_logger(logger)));
    driver_.config().logger = logger;
    return {};
}

Outcome<> Controller::put_metrics(const config::Metrics& metrics) {
    REQUIRE_OUTCOME(before_start());
    const char* const prefix = "Metrics error: Cannot initialize the metrics system due to bad user input: ";
    if (config().metrics) return refuse(std::string(prefix) + "Reinitialization of metrics not allowed.");
    REQUIRE_OUTCOME(with_prefix(prefix, driver_.configure_metrics(metrics)));
    driver_.config().metrics = metrics;
    return {};
}

Outcome<> Controller::put_serial(const config::Serial& serial) {
    REQUIRE_OUTCOME(before_start());
    driver_.config().serial = serial;
    return {};
}

Outcome<> Controller::put_mmds_config(const config::MmdsConfig& mmds) {
    REQUIRE_OUTCOME(before_start());
    boot_configured_ = true;
    REQUIRE_OUTCOME(with_prefix("MMMDS config error: ", driver_.config().put_mmds(mmds)));
    return {};
}

void Controller::start(OutcomeHandler done) {
    if (auto allowed = before_start(); !allowed) return done(std::move(allowed));
    const char* const prefix = "Start microvm error: ";
    if (!config().boot_source)
        return done(refuse(std::string(prefix) + "Cannot start microvm without kernel configuration."));
    driver_.start([this, prefix, done = std::move(done)](Result<void> result) mutable {
        if (result) state_ = VmState::kRunning;
        done(with_prefix(prefix, std::move(result)));
    });
}

void Controller::load_snapshot(const config::SnapshotLoad& request, OutcomeHandler done) {
    if (auto allowed = before_start(); !allowed) return done(std::move(allowed));
    const std::string prefix = "Load snapshot error: ";
    if (boot_configured_)
        return done(
            refuse(prefix + "Loading a microVM snapshot not allowed after configuring boot-specific resources."));
    done = timed(MachineDriver::Operation::kLoadSnapshot, std::move(done));
    auto loaded = [this, prefix, resume_vm = request.resume_vm, done = std::move(done)](Result<void> result) mutable {
        if (!result) return done(std::unexpected(Fault{prefix + result.error().message, 400, true}));
        state_ = VmState::kPaused;
        if (!resume_vm) return done({});
        resume(std::move(done));
    };
    driver_.load_snapshot(request, std::move(loaded));
}

void Controller::patch_drive(const config::DrivePatch& patch, OutcomeHandler done) {
    if (auto allowed = after_start(); !allowed) return done(std::move(allowed));
    const auto refuse_patch = [](const std::string& reason) {
        return refuse("Drive config error: Unable to patch the block device: " + reason +
                      " Please verify the request arguments.");
    };
    if (!find(config().drives, &config::Drive::drive_id, patch.drive_id))
        return done(refuse_patch("Failed perform action on device: Device not found"));
    // Only a vhost-user drive, of which there are none, has anything to refresh.
    if (!patch.path_on_host && !patch.rate_limiter)
        return done(refuse_patch("Block: Running method expected different backend."));
    driver_.patch_drive(patch, [this, patch, refuse_patch, done = std::move(done)](Result<void> patched) mutable {
        if (!patched) return done(refuse_patch("Block: " + patched.error().message));
        config::Drive& drive = *find(driver_.config().drives, &config::Drive::drive_id, patch.drive_id);
        if (patch.path_on_host) drive.path_on_host = *patch.path_on_host;
        merge(drive.rate_limiter, patch.rate_limiter);
        done({});
    });
}

void Controller::patch_network_interface(const config::NetworkInterfacePatch& patch, OutcomeHandler done) {
    if (auto allowed = after_start(); !allowed) return done(std::move(allowed));
    const std::string prefix = "Network config error: Unable to update the net device: ";
    if (!find(config().network_interfaces, &config::NetworkInterface::iface_id, patch.iface_id))
        return done(refuse(prefix + "Failed perform action on device: Device not found"));
    driver_.patch_network_interface(patch, [this, patch, prefix, done = std::move(done)](Result<void> patched) mutable {
        if (patched) {
            auto& interface =
                *find(driver_.config().network_interfaces, &config::NetworkInterface::iface_id, patch.iface_id);
            merge(interface.rx_rate_limiter, patch.rx_rate_limiter);
            merge(interface.tx_rate_limiter, patch.tx_rate_limiter);
        }
        done(with_prefix(prefix.c_str(), std::move(patched)));
    });
}

Outcome<> Controller::flush_metrics() {
    REQUIRE_OUTCOME(after_start());
    return with_prefix("Internal VMM error: ", driver_.flush_metrics());
}

Outcome<> Controller::send_ctrl_alt_del() {
    REQUIRE_OUTCOME(after_start());
    return with_prefix("Internal VMM error: ", driver_.send_ctrl_alt_del());
}

/// Tells the driver how long it takes until `done` is called for a success.
OutcomeHandler Controller::timed(MachineDriver::Operation operation, OutcomeHandler done) {
    return [this, operation, start_ns = monotonic_ns(), done = std::move(done)](Outcome<> outcome) mutable {
        if (outcome) driver_.took(operation, (monotonic_ns() - start_ns) / 1000);
        done(std::move(outcome));
    };
}

void Controller::pause(OutcomeHandler done) {
    if (auto allowed = after_start(); !allowed) return done(std::move(allowed));
    if (state_ == VmState::kPaused) return done({});
    done = timed(MachineDriver::Operation::kPause, std::move(done));
    driver_.pause([this, done = std::move(done)](Result<void> result) mutable {
        if (result) state_ = VmState::kPaused;
        done(with_prefix("Internal VMM error: ", std::move(result)));
    });
}

void Controller::resume(OutcomeHandler done) {
    if (auto allowed = after_start(); !allowed) return done(std::move(allowed));
    if (state_ == VmState::kRunning) return done({});
    done = timed(MachineDriver::Operation::kResume, std::move(done));
    driver_.resume([this, done = std::move(done)](Result<void> result) mutable {
        if (result) state_ = VmState::kRunning;
        done(with_prefix("Internal VMM error: ", std::move(result)));
    });
}

void Controller::create_snapshot(const config::SnapshotCreate& request, OutcomeHandler done) {
    if (auto allowed = after_start(); !allowed) return done(std::move(allowed));
    const std::string prefix = "Create snapshot error: ";
    if (state_ == VmState::kRunning)
        return done(refuse(
            prefix + "Cannot save the microVM state: Operation not allowed: save/restore unavailable while running"));
    const bool full = request.snapshot_type == config::SnapshotType::kFull;
    done = timed(full ? MachineDriver::Operation::kFullSnapshot : MachineDriver::Operation::kDiffSnapshot,
                 std::move(done));
    driver_.create_snapshot(request, [prefix, done = std::move(done)](Result<void> result) mutable {
        done(with_prefix(prefix.c_str(), std::move(result)));
    });
}

Outcome<> Controller::mmds_at_hand() const {
    // A machine that was started without a way to its metadata never gets one.
    if (state_ == VmState::kNotStarted || config().mmds) return {};
    return refuse("MMDS error: The MMDS data store is not initialized.");
}

Outcome<std::string> Controller::mmds_data() const {
    if (auto at_hand = mmds_at_hand(); !at_hand) return std::unexpected(std::move(at_hand).error());
    return mmds_.to_json();
}

Outcome<> Controller::put_mmds_data(config::Value data) {
    REQUIRE_OUTCOME(mmds_at_hand());
    return mmds_outcome(mmds_.put(std::move(data)));
}

Outcome<> Controller::patch_mmds_data(config::Value patch) {
    REQUIRE_OUTCOME(mmds_at_hand());
    return mmds_outcome(mmds_.patch(std::move(patch)));
}

}  // namespace wisp
