// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine_control.h"

#include "base/check.h"

namespace wisp {

namespace {

/// The devices' thread answers within its own deadlines. One that does not is stuck, in the host's kernel most likely.
constexpr uint64_t kGrace_ns = 1'000'000'000;

}  // namespace

MachineControl::MachineControl(Loop& control, MachineHost host)
    : host_(std::move(host)),
      to_devices_(host_.loop),
      to_control_(control),
      deadline_(control, [this] { on_deadline(); }) {}

void MachineControl::ask(const char* what, uint64_t deadline_ns, Work work, Handler done) {
    if (ending_) return done(fail("%s: the process is ending", what));
    send(what, deadline_ns, std::move(work), std::move(done));
}

void MachineControl::send(const char* what, uint64_t deadline_ns, Work work, Handler done) {
    CHECK(!done_);  // one operation at a time
    ++number_;
    what_ = what;
    done_ = std::move(done);
    if (deadline_ns) deadline_.arm(deadline_ns);
    const bool sent = to_devices_.send([this, number = number_, work = std::move(work)]() mutable {
        if (number <= given_up_.load(std::memory_order_acquire)) return;  // its client has an error already
        work([this, number](Result<void> outcome) {
            // As many messages wait as there are operations that were given up: no more than a few.
            const bool answered = to_control_.send([this, number, outcome] { answer(number, outcome); });
            CHECK(answered);
        });
    });
    if (!sent) answer(number_, fail("%s: the thread of the devices does not answer", what));
}

void MachineControl::answer(uint64_t number, Result<void> outcome) {
    if (number != number_ || !done_) return;  // it was given up
    deadline_.cancel();
    std::exchange(done_, nullptr)(std::move(outcome));
    if (closed_) close_devices();
}

void MachineControl::on_deadline() {
    given_up_.store(number_, std::memory_order_release);
    answer(number_, fail("%s: the thread of the devices does not answer (does a disk or a file system of the host "
                         "hang?)",
                         what_));
}

// ---- the start ----

Result<void> MachineControl::start_here() {
    if (!boot_) boot_ = TRY(build::Boot::begin());
    build_start_ns_.store(boot_->begun_at_ns(), std::memory_order_relaxed);
    const auto boot = std::move(boot_);
    machine_ = TRY(boot->run(host_, config_));
    published_.store(machine_.get(), std::memory_order_release);
    return {};
}

void MachineControl::start(Handler done) {
    // No deadline: a large image on a slow disk takes its time, and requests are answered meanwhile.
    ask(
        "start", 0,
        [this](Handler reply) {
            auto started = start_here();
            // From here on nothing is built any more. A machine that has run is not taken apart: what fails now ends
            // the process.
            if (started)
                if (auto installed = host_.seccomp.install(policy::Phase::kLoop); !installed)
                    host_.stop.request({ExitCode::kBadConfiguration, installed.error().message});
            reply(std::move(started));
        },
        std::move(done));
}

// ---- while it runs ----

void MachineControl::pause(Handler done) {
    ask(
        "pause", limits::kPauseDeadline_ns + kGrace_ns,
        [this](Handler reply) { machine_->pause().acquire(Hold::kClient, std::move(reply)); },
        [this, done = std::move(done)](Result<void> outcome) mutable {
            // Given up here, the pause must not come about later. If the box is full, no message gets through at all.
            if (!outcome) (void)to_devices_.send([this] { machine_->pause().release(Hold::kClient); });
            done(std::move(outcome));
        });
}

void MachineControl::resume(Handler done) {
    ask(
        "resume", kGrace_ns,
        [this](Handler reply) {
            machine_->pause().release(Hold::kClient);
            reply({});
        },
        std::move(done));
}

void MachineControl::patch_drive(const config::DrivePatch& patch, Handler done) {
    ask(
        "drive patch", limits::kPauseDeadline_ns, [this, patch](Handler reply) { reply(machine_->patch_drive(patch)); },
        std::move(done));
}

void MachineControl::patch_network_interface(const config::NetworkInterfacePatch& patch, Handler done) {
    ask(
        "interface patch", limits::kPauseDeadline_ns,
        [this, patch](Handler reply) { reply(machine_->patch_network_interface(patch)); }, std::move(done));
}

Result<void> MachineControl::send_ctrl_alt_del() {
    return machine()->send_ctrl_alt_del();
}

// ---- the end ----

// A guest may end before the client that started it has its answer.
void MachineControl::close(Handler done) {
    ending_ = true;
    closed_ = std::move(done);
    if (!done_) return close_devices();
    deadline_.arm(limits::kEndGrace_ns);
}

void MachineControl::close_devices() {
    if (!machine()) return std::exchange(closed_, nullptr)({});
    send(
        "end", limits::kCloseDeadline_ns,
        [this](Handler reply) {
            machine_->close();
            reply({});
        },
        std::exchange(closed_, nullptr));
}

void MachineControl::unlink_sockets() {
    if (Machine* const machine = this->machine()) machine->unlink_sockets();
}

}  // namespace wisp
