// SPDX-License-Identifier: Apache-2.0
//
// The rules of before and after the start, with a machine that takes notes. What each request answers is in
// tests/api/contract.txt; here is what reaches the machine, and what does not.
#include "vmm/controller.h"
#include "vmm/preflight.h"

#include <catch2/catch.hpp>

using namespace wisp;

namespace {

class Notes final : public MachineDriver {
public:
    std::vector<std::string> calls;
    Result<void> next;  ///< outcome of the next call
    Handler pending;    ///< of the call that is under way, if `hold`
    bool hold = false;

    config::VmConfig& config() override { return config_; }
    void start(Handler done) override { note("start", std::move(done)); }
    void pause(Handler done) override { note("pause", std::move(done)); }
    void resume(Handler done) override { note("resume", std::move(done)); }
    void create_snapshot(const config::SnapshotCreate&, Handler done) override { note("create", std::move(done)); }
    void load_snapshot(const config::SnapshotLoad&, Handler done) override {
        if (next) config_.machine.vcpu_count = 3;
        note("load", std::move(done));
    }
    void patch_drive(const config::DrivePatch& patch, Handler done) override {
        note(("patch " + patch.drive_id).c_str(), std::move(done));
    }
    void patch_network_interface(const config::NetworkInterfacePatch&, Handler done) override { done(next); }
    Result<void> send_ctrl_alt_del() override { return next; }
    Result<void> flush_metrics() override { return next; }
    Result<void> listen_for_vsock(const config::Vsock&) override { return next; }
    Result<void> configure_logger(const config::Logger&) override { return next; }
    Result<void> configure_metrics(const config::Metrics&) override { return next; }

private:
    config::VmConfig config_;

    void note(const char* name, Handler done) {
        calls.push_back(name);
        if (hold)
            pending = std::move(done);
        else
            done(next);
    }
};

std::string told(const Outcome<>& outcome) {
    return outcome ? "ok" : outcome.error().message;
}

struct Fixture {
    Notes notes;
    Controller controller{"vm", notes, 1000};
    std::string last = "no answer";

    OutcomeHandler handler() {
        return [this](Outcome<> outcome) { last = told(outcome); };
    }
    void boot() {
        config::BootSource boot;
        boot.kernel_image_path = "/dev/null";
        REQUIRE(controller.put_boot_source(boot));
        config::Drive drive;
        drive.drive_id = "a";
        drive.path_on_host = "/proc/self/exe";
        drive.is_read_only = true;
        REQUIRE(controller.put_drive(drive));
        controller.start(handler());
    }
};

constexpr char kBefore[] = "The requested operation is not supported before starting the microVM.";
constexpr char kAfter[] = "The requested operation is not supported after starting the microVM.";

}  // namespace

TEST_CASE_METHOD(Fixture, "before the start, the machine is not bothered") {
    controller.pause(handler());
    CHECK(last == kBefore);
    controller.create_snapshot({}, handler());
    CHECK(last == kBefore);
    controller.patch_drive({.drive_id = "a"}, handler());
    CHECK(last == kBefore);
    CHECK(told(controller.flush_metrics()) == kBefore);
    controller.start(handler());
    CHECK(last == "Start microvm error: Cannot start microvm without kernel configuration.");
    CHECK(notes.calls.empty());
}

TEST_CASE_METHOD(Fixture, "a start that fails may be tried again") {
    notes.next = fail("no KVM");
    boot();
    CHECK(last == "Start microvm error: no KVM");
    CHECK(controller.state() == VmState::kNotStarted);
    notes.next = {};
    controller.start(handler());
    CHECK(last == "ok");
    CHECK(controller.state() == VmState::kRunning);
    CHECK(told(controller.put_machine({})) == kAfter);
    CHECK(told(controller.put_drive({})) == "PCI is not enabled");
}

TEST_CASE_METHOD(Fixture, "the state changes when the machine has done it, not when it is asked for") {
    boot();
    notes.hold = true;
    last = "no answer";
    controller.pause(handler());
    CHECK(last == "no answer");
    CHECK(controller.state() == VmState::kRunning);
    notes.pending({});
    CHECK(last == "ok");
    CHECK(controller.state() == VmState::kPaused);
    controller.pause(handler());  // already so
    CHECK(last == "ok");
    CHECK(notes.calls == std::vector<std::string>{"start", "pause"});
}

TEST_CASE_METHOD(Fixture, "a snapshot is taken of a paused machine only") {
    boot();
    controller.create_snapshot({}, handler());
    CHECK(last.ends_with("save/restore unavailable while running"));
    controller.pause(handler());
    controller.create_snapshot({}, handler());
    CHECK(last == "ok");
    CHECK(notes.calls.back() == "create");
}

TEST_CASE_METHOD(Fixture, "a snapshot is loaded into a process that has configured nothing, and a failure is the end") {
    SECTION("logger and metadata do not count") {
        CHECK(controller.put_logger({}));
        CHECK(controller.put_mmds_data({}));
        controller.load_snapshot({.snapshot_path = "/s", .mem_file_path = "/m", .resume_vm = true}, handler());
        CHECK(last == "ok");
        CHECK(notes.calls == std::vector<std::string>{"load", "resume"});
        CHECK(controller.state() == VmState::kRunning);
        CHECK(controller.config().machine.vcpu_count == 3);
    }
    SECTION("a machine does") {
        CHECK(controller.put_machine({}));
        controller.load_snapshot({}, handler());
        CHECK(last.ends_with("not allowed after configuring boot-specific resources."));
        CHECK(notes.calls.empty());
    }
    SECTION("a failure is fatal") {
        notes.next = fail("torn");
        bool fatal = false;
        controller.load_snapshot({}, [&](Outcome<> outcome) { fatal = !outcome.has_value() && outcome.error().fatal; });
        CHECK(fatal);
    }
}

TEST_CASE_METHOD(Fixture, "a patch reaches a drive that exists, and the configuration shows it") {
    boot();
    controller.patch_drive({.drive_id = "b", .path_on_host = "/x"}, handler());
    CHECK(last.find("Device not found") != std::string::npos);
    controller.patch_drive({.drive_id = "a"}, handler());
    CHECK(last.find("expected different backend") != std::string::npos);
    CHECK(notes.calls.size() == 1);
    RateLimiterConfig ops;
    ops.ops = TokenBucketConfig{.size = 1, .refill_time_ms = 2};
    RateLimiterConfig bandwidth;
    bandwidth.bandwidth = TokenBucketConfig{.size = 3, .refill_time_ms = 4};
    controller.patch_drive({.drive_id = "a", .path_on_host = "/dev/zero", .rate_limiter = ops}, handler());
    CHECK(last == "ok");
    controller.patch_drive({.drive_id = "a", .rate_limiter = bandwidth}, handler());
    CHECK(last == "ok");
    const config::Drive& drive = controller.config().drives[0];
    CHECK(drive.path_on_host == "/dev/zero");
    CHECK(drive.rate_limiter->ops->size == 1);
    CHECK(drive.rate_limiter->bandwidth->size == 3);
    notes.next = fail("cannot");
    controller.patch_drive({.drive_id = "a", .path_on_host = "/dev/null"}, handler());
    CHECK(last.find("cannot") != std::string::npos);
    CHECK(drive.path_on_host == "/dev/zero");
}

TEST_CASE_METHOD(Fixture, "host files are looked at when they are named") {
    config::BootSource boot_source;
    boot_source.kernel_image_path = "/nonexistent";
    CHECK(told(controller.put_boot_source(boot_source)) ==
          "Boot source error: The kernel file cannot be opened: No such file or directory (os error 2)");
    config::Drive drive;
    drive.drive_id = "a";
    drive.path_on_host = "/dev/null";
    CHECK(told(controller.put_drive(drive)).find("neither a regular file nor a block device") != std::string::npos);
    CHECK(controller.config().drives.empty());
    CHECK(listen_for_vsock("/dev/null").error().message ==
          "Cannot create backend for vsock device: Error binding to the host-side Unix socket: Address already in use "
          "(os error 98)");
}
