// SPDX-License-Identifier: Apache-2.0
//
// One vCPU and its thread: prepared, then in the guest from let_go() until the VM ends, but for pauses.
//
// Threads: everything private runs on the vCPU's thread. start(), let_go(), pause() and resume() belong to the loop's
// thread.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

#include "base/bus.h"
#include "base/countdown.h"
#include "base/latency.h"
#include "base/result.h"
#include "base/worker.h"
#include "vmm/kvm/kvm.h"
#include "vmm/stop.h"
#include "vmm/timeline.h"

namespace wisp {

const char* vcpu_thread_name(unsigned id);

/// The signal that gets a vCPU thread out of the guest. It does nothing else.
int vcpu_kick_signal();
/// Installs its handler; once, before the first vCPU starts.
Result<void> install_vcpu_kick_handler();

class Vcpu {
public:
    /// What a vCPU reaches outside of itself.
    struct World {
        const Bus& mmio;
        const Bus& ports;
        StopSink& stop;
        Timeline& timeline;
    };

    Vcpu(unsigned id, World world) : id_(id), world_(world) {}
    Vcpu(const Vcpu&) = delete;
    Vcpu& operator=(const Vcpu&) = delete;
    /// Ends the thread, wherever it is, and waits for it. A VM that has run is not taken apart; one whose build failed
    /// is.
    ~Vcpu();

    /// Gives the vCPU its thread, on which `prepare` gets it ready; then it waits for let_go(). `prepared` counts down
    /// when preparation has ended, well or not: see outcome().
    void start(std::unique_ptr<Worker> worker, std::function<Result<VcpuFd>()> prepare, Countdown& prepared);
    /// How preparation ended. After the countdown.
    Result<void> outcome() const { return outcome_; }
    /// The vCPU itself. After the countdown.
    const VcpuFd& fd() const { return fd_; }

    /// Lets the vCPU into the guest as soon as it is prepared.
    void let_go() { request(Request::kRun); }
    /// Lets it into the guest again after pause().
    void resume();
    /// Gets it out of the guest; `on_paused` runs on the vCPU's thread once its state is complete and stays as it is.
    void pause(std::function<void()> on_paused);

    /// Exits to this process so far.
    uint64_t exits() const { return exits_.load(std::memory_order_relaxed); }
    /// Of these, the accesses of this kind, and how long this process took for each. Any thread; a little behind.
    enum class Access : uint8_t { kPortRead, kPortWrite, kMmioRead, kMmioWrite };
    static constexpr size_t kAccesses = 4;
    LatencySummary accesses(Access access) const;

private:
    enum class Request : int { kRun, kPause, kEnd };

    void run();
    /// False: the thread is to end.
    bool wait_until_running();
    void request(Request request);
    /// False: this vCPU has seen its last exit.
    bool handle_exit();
    void record(Access access, uint64_t ns);
    void handle_port_io();
    void handle_mmio();
    bool fatal_exit(std::string what);
    std::string where() const;

    const unsigned id_;
    const World world_;
    VcpuFd fd_;
    Result<void> outcome_;
    std::function<Result<VcpuFd>()> prepare_;
    Countdown* prepared_ = nullptr;
    std::mutex mutex_;  // for waiting; the request alone is read without it
    std::condition_variable requested_;
    std::atomic<Request> request_ = Request::kPause;
    std::function<void()> on_paused_;
    std::atomic<uint64_t> exits_ = 0;
    struct AccessTimes {  // written by the vCPU's thread alone
        std::atomic<uint64_t> count = 0, sum_ns = 0, min_ns = 0, max_ns = 0;
    };
    std::array<AccessTimes, kAccesses> accesses_;
    std::unique_ptr<Worker> worker_;  // last: it ends before what it uses goes
};

}  // namespace wisp
