// SPDX-License-Identifier: Apache-2.0
#include "vmm/pause.h"

#include <catch2/catch.hpp>

using namespace wisp;

namespace {

struct FakeParts final : Pause::Parts {
    void stop_vcpus() override { log += "vcpus "; }
    bool vcpus_stopped() const override { return vcpus; }
    void stop_devices() override { log += "devices "; }
    bool devices_stopped() const override { return devices; }
    void go_on() override { log += "go "; }
    std::string unfinished() const override { return "drive rootfs"; }

    std::string log;
    bool vcpus = true, devices = true;
};

struct Rig {
    explicit Rig(uint64_t deadline_ns = 60'000'000'000) : pause(*loop, parts, deadline_ns) {}
    Pause::Done note(const char* name) {
        return [this, name](Result<void> outcome) {
            answers += name;
            answers += outcome ? "+ " : "- ";
            if (!outcome) error = outcome.error().message;
        };
    }
    std::unique_ptr<Loop> loop = *Loop::create(Loop::Backend::kEpoll);
    FakeParts parts;
    Pause pause;
    std::string answers, error;
};

}  // namespace

TEST_CASE("pause: vCPUs stop before devices, and the waiter hears of it when both have") {
    Rig rig;
    rig.parts.vcpus = rig.parts.devices = false;
    rig.pause.acquire(Hold::kClient, rig.note("client"));
    CHECK(rig.pause.state() == Pause::State::kPausing);
    CHECK(rig.parts.log == "vcpus ");
    rig.parts.vcpus = true;
    rig.pause.on_progress();
    CHECK(rig.parts.log == "vcpus devices ");
    CHECK(rig.answers.empty());
    rig.pause.on_progress();
    rig.parts.devices = true;
    rig.pause.on_progress();
    CHECK(rig.answers == "client+ ");
    CHECK(rig.parts.log == "vcpus devices ");
    rig.pause.release(Hold::kClient);
    CHECK(rig.pause.state() == Pause::State::kRunning);
    CHECK(rig.parts.log == "vcpus devices go ");
}

TEST_CASE("pause: an inner hold never resumes a machine that a client holds") {
    Rig rig;
    rig.pause.acquire(Hold::kClient, rig.note("client"));
    rig.pause.acquire(Hold::kDevice, rig.note("device"));
    rig.pause.release(Hold::kDevice);
    CHECK(rig.pause.state() == Pause::State::kPaused);
    CHECK(rig.parts.log == "vcpus devices ");
    rig.pause.release(Hold::kClient);
    CHECK(rig.pause.state() == Pause::State::kRunning);
    CHECK(rig.answers == "client+ device+ ");
}

TEST_CASE("pause: each of several waiters is answered") {
    Rig rig;
    rig.parts.vcpus = false;
    rig.pause.acquire(Hold::kDevice, rig.note("device"));
    rig.pause.acquire(Hold::kClient, rig.note("client"));
    rig.pause.acquire(Hold::kSnapshot, rig.note("snapshot"));
    rig.parts.vcpus = true;
    rig.pause.on_progress();
    CHECK(rig.answers == "device+ client+ snapshot+ ");
    rig.pause.release(Hold::kDevice);
    rig.pause.release(Hold::kSnapshot);
    CHECK(rig.pause.state() == Pause::State::kPaused);
}

TEST_CASE("pause: a hold that ends before the machine stands is answered by an error") {
    Rig rig;
    rig.parts.vcpus = false;
    rig.pause.acquire(Hold::kDevice, rig.note("device"));
    rig.pause.acquire(Hold::kClient, rig.note("client"));
    rig.pause.release(Hold::kDevice);
    CHECK(rig.answers == "device- ");
    CHECK(rig.pause.state() == Pause::State::kPausing);
    rig.pause.release(Hold::kClient);
    CHECK(rig.answers == "device- client- ");
    CHECK(rig.pause.state() == Pause::State::kRunning);
    CHECK(rig.parts.log == "vcpus go ");
    rig.parts.vcpus = true;
    rig.pause.on_progress();  // a vCPU stopped after all: of no interest now
    CHECK(rig.pause.state() == Pause::State::kRunning);
}

TEST_CASE("pause: what does not stop in time is named, and the machine runs on") {
    Rig rig(1'000'000);
    rig.parts.devices = false;
    rig.pause.acquire(Hold::kClient, rig.note("client"));
    while (rig.answers.empty()) REQUIRE(rig.loop->turn(-1).has_value());
    CHECK(rig.answers == "client- ");
    CHECK(rig.error.find("drive rootfs did not stop") != std::string::npos);
    CHECK(rig.pause.state() == Pause::State::kRunning);
    CHECK(rig.parts.log == "vcpus devices go ");
    CHECK_FALSE(rig.pause.is_held_by(Hold::kClient));
    rig.parts.devices = true;
    rig.pause.acquire(Hold::kClient, rig.note("again"));
    CHECK(rig.answers == "client- again+ ");
}
