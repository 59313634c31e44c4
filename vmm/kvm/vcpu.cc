// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vcpu.h"

#include <csignal>
#include <cstring>

#include "base/limits.h"
#include "base/log.h"

namespace wisp {

namespace {

void on_kick(int) {}  // the signal's work is done by arriving: KVM_RUN returns

std::string internal_error_text(const kvm_run& page) {
    const auto& internal = page.internal;
    std::string text = format("KVM internal error, suberror %u", internal.suberror);
    if (internal.suberror != KVM_INTERNAL_ERROR_EMULATION) return text;
    text += " (KVM cannot emulate an instruction of the guest";
    const auto& failure = page.emulation_failure;
    if (failure.ndata >= 1 && (failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
        text += ":";
        for (unsigned i = 0; i < failure.insn_size && i < sizeof failure.insn_bytes; ++i)
            text += format(" %02x", failure.insn_bytes[i]);
    }
    return text + ")";
}

}  // namespace

const char* vcpu_thread_name(unsigned id) {
    static constexpr const char* kNames[] = {
        "fc_vcpu 0",  "fc_vcpu 1",  "fc_vcpu 2",  "fc_vcpu 3",  "fc_vcpu 4",  "fc_vcpu 5",  "fc_vcpu 6",  "fc_vcpu 7",
        "fc_vcpu 8",  "fc_vcpu 9",  "fc_vcpu 10", "fc_vcpu 11", "fc_vcpu 12", "fc_vcpu 13", "fc_vcpu 14", "fc_vcpu 15",
        "fc_vcpu 16", "fc_vcpu 17", "fc_vcpu 18", "fc_vcpu 19", "fc_vcpu 20", "fc_vcpu 21", "fc_vcpu 22", "fc_vcpu 23",
        "fc_vcpu 24", "fc_vcpu 25", "fc_vcpu 26", "fc_vcpu 27", "fc_vcpu 28", "fc_vcpu 29", "fc_vcpu 30", "fc_vcpu 31"};
    return kNames[id];
}

int vcpu_kick_signal() {
    return SIGRTMIN;
}

Result<void> install_vcpu_kick_handler() {
    struct sigaction action{};
    action.sa_handler = on_kick;  // without SA_RESTART
    if (sigaction(vcpu_kick_signal(), &action, nullptr) < 0) return fail_errno("cannot install the vCPU kick handler");
    return {};
}

Vcpu::~Vcpu() {
    if (worker_) request(Request::kEnd);
}

void Vcpu::run() {
    unsigned refused = 0;  // in a row
    while (wait_until_running()) {
        if (id_ == 0 && exits() == 0) world_.timeline.mark(Mark::kFirstInstruction);  // the first time alone counts
        ran_ = true;
        const int error = fd_.run();
        exit_open_ = false;
        if (error == EINTR) continue;
        // A vCPU that waited for its INIT is back. But also: KVM may not make the thread that it needs.
        if (error == EAGAIN && ++refused <= limits::kMaxRunsRefused) continue;
        if (error != EAGAIN) refused = 0;
        if (error == EFAULT) {
            fatal_exit("guest memory has lost its backing");
        } else if (error) {
            fatal_exit("KVM_RUN: " + errno_text(error) +
                       (error == EAGAIN ? " (does a limit keep KVM from making its threads?)" : ""));
        } else {
            exits_.store(exits() + 1, std::memory_order_relaxed);
            if (handle_exit() && !world_.stop.stopping()) continue;
        }
        break;
    }
    // The process ends without waiting for this thread. A pause that is asked for meanwhile finds it parked.
    parked_.store(true, std::memory_order_release);
    world_.parked.ring();
}

bool Vcpu::wait_until_running() {
    if (request_.load(std::memory_order_acquire) == Request::kRun) [[likely]]
        return true;
    complete_exit();
    std::unique_lock lock(mutex_);
    if (request_.load(std::memory_order_relaxed) == Request::kPause) park(lock);
    return request_.load(std::memory_order_relaxed) == Request::kRun;
}

// A vCPU that stands at an I/O exit has not taken the value that it read: neither its registers nor a snapshot of them
// would be true. KVM_RUN with immediate_exit completes the instruction and returns (KVM API, 5. The kvm_run structure).
// An access that crosses a page is several exits.
void Vcpu::complete_exit() {
    for (unsigned i = 0; exit_open_ && i < limits::kMaxExitsToComplete; ++i) {
        const int error = fd_.run();
        exit_open_ = false;
        if (error) return;
        exits_.store(exits() + 1, std::memory_order_relaxed);
        if (!handle_exit()) return request(Request::kEnd);
    }
}

void Vcpu::park(std::unique_lock<std::mutex>& lock) {
    // The guest's watchdogs forgive the time that it was paused for. A guest without kvmclock has nothing to tell.
    if (std::exchange(ran_, false) && !fd_.note_pause())
        kvmclock_ctrl_fails_.store(kvmclock_ctrl_fails() + 1, std::memory_order_relaxed);
    parked_.store(true, std::memory_order_release);
    world_.parked.ring();
    requested_.wait(lock, [this] { return request_.load(std::memory_order_relaxed) != Request::kPause; });
    parked_.store(false, std::memory_order_release);
}

void Vcpu::request(Request wanted) {
    {
        const std::lock_guard lock(mutex_);
        if (request_.load(std::memory_order_relaxed) == Request::kEnd) return;
        request_.store(wanted, std::memory_order_release);
    }
    requested_.notify_one();
    if (wanted == Request::kRun || !fd_.valid()) return;
    // Set before the signal is sent: a KVM_RUN that the signal comes too early for returns at once.
    __atomic_store_n(&fd_.run_page().immediate_exit, 1, __ATOMIC_RELEASE);
    if (worker_) pthread_kill(worker_->thread(), vcpu_kick_signal());
}

void Vcpu::resume() {
    __atomic_store_n(&fd_.run_page().immediate_exit, 0, __ATOMIC_RELEASE);
    request(Request::kRun);
}

void Vcpu::pause() {
    request(Request::kPause);
}

bool Vcpu::handle_exit() {
    const kvm_run& page = fd_.run_page();
    switch (page.exit_reason) {
        case KVM_EXIT_IO: {
            const uint64_t start_ns = monotonic_ns();
            const bool read = page.io.direction == KVM_EXIT_IO_IN;
            handle_port_io();
            exit_open_ = true;
            record(read ? Access::kPortRead : Access::kPortWrite, monotonic_ns() - start_ns);
            return true;
        }
        case KVM_EXIT_MMIO: {
            const uint64_t start_ns = monotonic_ns();
            handle_mmio();
            exit_open_ = true;
            record(page.mmio.is_write ? Access::kMmioWrite : Access::kMmioRead, monotonic_ns() - start_ns);
            return true;
        }
        case KVM_EXIT_INTR:
        case KVM_EXIT_IRQ_WINDOW_OPEN:
        case KVM_EXIT_HLT:
            return true;
        case KVM_EXIT_SHUTDOWN:
            return fatal_exit("triple fault");
        case KVM_EXIT_FAIL_ENTRY:
            return fatal_exit(format("the CPU refuses to enter the guest, hardware reason 0x%llx",
                                     page.fail_entry.hardware_entry_failure_reason));
        case KVM_EXIT_INTERNAL_ERROR:
            return fatal_exit(internal_error_text(page));
        case KVM_EXIT_SYSTEM_EVENT:
            return fatal_exit(format("system event %u", page.system_event.type));
        default:
            return fatal_exit(format("unexpected KVM exit, reason %u", page.exit_reason));
    }
}

void Vcpu::record(Access access, uint64_t ns) {
    constexpr auto kRelaxed = std::memory_order_relaxed;
    AccessTimes& times = accesses_[static_cast<unsigned>(access)];
    const uint64_t count = times.count.load(kRelaxed);
    if (count == 0 || ns < times.min_ns.load(kRelaxed)) times.min_ns.store(ns, kRelaxed);
    if (ns > times.max_ns.load(kRelaxed)) times.max_ns.store(ns, kRelaxed);
    times.sum_ns.store(times.sum_ns.load(kRelaxed) + ns, kRelaxed);
    times.count.store(count + 1, kRelaxed);
}

LatencySummary Vcpu::accesses(Access access) const {
    const AccessTimes& times = accesses_[static_cast<unsigned>(access)];
    return {times.min_ns / 1000, times.max_ns / 1000, times.sum_ns / 1000, times.count};
}

void Vcpu::handle_port_io() {
    const auto& io = fd_.run_page().io;
    auto* data = reinterpret_cast<std::byte*>(&fd_.run_page()) + io.data_offset;
    // A string instruction brings several accesses of the same port in one exit.
    for (uint32_t i = 0; i < io.count; ++i, data += io.size) {
        if (io.direction == KVM_EXIT_IO_IN)
            world_.ports.read(io.port, {data, io.size});
        else
            world_.ports.write(io.port, {data, io.size});
    }
}

void Vcpu::handle_mmio() {
    auto& mmio = fd_.run_page().mmio;
    const std::span data(reinterpret_cast<std::byte*>(mmio.data), mmio.len);
    if (mmio.is_write)
        world_.mmio.write(mmio.phys_addr, data);
    else
        world_.mmio.read(mmio.phys_addr, data);
}

std::string Vcpu::where() const {
    const auto regs = fd_.regs();
    return regs ? format(" at rip 0x%llx", regs->rip) : "";
}

bool Vcpu::fatal_exit(const std::string& what) {
    world_.stop.request({ExitCode::kGenericError, format("vCPU %u stopped%s: %s", id_, where().c_str(), what.c_str())});
    return false;
}

}  // namespace wisp
