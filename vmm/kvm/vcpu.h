// SPDX-License-Identifier: Apache-2.0
//
// One vCPU and its thread. A recipe prepares the vCPU; then run() keeps it in the guest until the VM ends, but for
// pauses.
//
// Threads: run() and everything private belong to the vCPU's thread, the rest to the loop's. Counters may be read from
// any thread.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/bus.h"
#include "base/latency.h"
#include "base/result.h"
#include "base/worker.h"
#include "vmm/kvm/vcpu_fd.h"
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
        Doorbell& parked;  ///< rung when this vCPU has left the guest for a pause
    };

    Vcpu(unsigned id, World world) : id_(id), world_(world) {}
    Vcpu(const Vcpu&) = delete;
    Vcpu& operator=(const Vcpu&) = delete;
    /// Ends the thread, wherever it is, and waits for it. A VM that has run is not taken apart; one whose build failed
    /// is.
    ~Vcpu();

    unsigned id() const { return id_; }

    /// The thread that will call run(). It must end by itself where run() is never called.
    void adopt_thread(std::unique_ptr<Worker> worker) { worker_ = std::move(worker); }
    /// The vCPU itself, before run().
    void set_fd(VcpuFd fd) { fd_ = std::move(fd); }
    const VcpuFd& fd() const { return fd_; }

    /// The thread's life from here on: waits for resume(), then runs the guest until the VM ends.
    void run();

    /// Lets the vCPU into the guest, for the first time or after pause().
    void resume();
    /// Gets the vCPU out of the guest. When its state is complete and stays as it is, it is parked.
    void pause();
    bool parked() const { return parked_.load(std::memory_order_acquire); }

    /// Exits to this process so far.
    uint64_t exits() const { return exits_.load(std::memory_order_relaxed); }
    /// Of these, the accesses of this kind, and how long this process took for each. Any thread; a little behind.
    enum class Access : uint8_t { kPortRead, kPortWrite, kMmioRead, kMmioWrite };
    static constexpr size_t kAccesses = 4;
    LatencySummary accesses(Access access) const;
    /// Pauses of which the guest's clock could not be told. Any thread.
    uint64_t kvmclock_ctrl_fails() const { return kvmclock_ctrl_fails_.load(std::memory_order_relaxed); }

private:
    enum class Request : int { kRun, kPause, kEnd };

    /// False: the thread is to end.
    bool wait_until_running();
    void request(Request request);
    void complete_exit();
    void park(std::unique_lock<std::mutex>& lock);
    /// False: this vCPU has seen its last exit.
    bool handle_exit();
    void record(Access access, uint64_t ns);
    void handle_port_io();
    void handle_mmio();
    bool fatal_exit(const std::string& what);
    std::string where() const;

    const unsigned id_;
    const World world_;
    VcpuFd fd_;
    bool exit_open_ = false;  // KVM completes the instruction of the last exit when it is entered again
    bool ran_ = false;        // since the last pause
    std::mutex mutex_;        // for waiting; the request alone is read without it
    std::condition_variable requested_;
    std::atomic<Request> request_ = Request::kPause;
    std::atomic<bool> parked_ = false;
    std::atomic<uint64_t> kvmclock_ctrl_fails_ = 0;
    std::atomic<uint64_t> exits_ = 0;
    struct AccessTimes {  // written by the vCPU's thread alone
        std::atomic<uint64_t> count = 0, sum_ns = 0, min_ns = 0, max_ns = 0;
    };
    std::array<AccessTimes, kAccesses> accesses_;
    std::unique_ptr<Worker> worker_;  // last: it ends before what it uses goes
};

}  // namespace wisp
