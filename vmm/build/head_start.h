// SPDX-License-Identifier: Apache-2.0
//
// HeadStart: what every VM needs, whatever its configuration says: a VM of KVM's, and what CPUs KVM can give it. Both
// wait for the kernel, or for a CPUID instruction that the host emulates, more than they work. So they begin on a
// thread of their own before the configuration is read; the thread then becomes the boot vCPU's.
#pragma once

#include <chrono>
#include <memory>

#include "base/once.h"
#include "base/worker.h"
#include "vmm/kvm/kvm.h"

namespace wisp {

class HeadStart {
public:
    /// Begins, if there is a CPU to spare. On a host with one, whoever makes the VM must enter the wait for it first,
    /// or nothing fits into that: make_vm() then does the work.
    static Result<std::unique_ptr<HeadStart>> begin();

    /// CLOCK_MONOTONIC at the beginning.
    uint64_t begun_at_ns() const { return begun_at_ns_; }
    /// Whether two threads are at work, each with a CPU.
    bool begun() const { return begun_; }
    /// Waits for the other thread's work.
    template <class T>
    Result<T>& wait_for(Once<T>& work) const {
        if (begun_) work.look_out();
        return work.wait();
    }

    /// Makes the VM, or waits for it. Errors tell what is missing of KVM.
    Result<void> make_vm();
    /// True if the VM is there, or cannot be had, within a moment. What takes longer is a grace period, which takes
    /// many.
    bool has_vm_soon();
    bool has_vm() const { return vm_made_.done(); }
    /// Once it is made.
    const Vm& vm() const { return vm_; }
    const Result<Kvm>& kvm();

    /// Asks KVM for every leaf, unless somebody has: whoever has the time calls it.
    void ask_cpuid();
    /// Whether the calling thread is the one to set the VM up while the other asks for CPUID. That waits for SRCU grace
    /// periods, whose ends Linux (since 5.18, up to some number of CPUs) handles on the CPU that it booted on: who is
    /// busy in the kernel there makes the other wait until it is done.
    static bool is_where_grace_periods_end();
    /// Asks, or waits.
    const Result<CpuidTable>& cpuid();

    /// The thread, if it was begun. It still uses this object.
    std::unique_ptr<Worker> take_worker() { return std::move(worker_); }

private:
    const uint64_t begun_at_ns_ = monotonic_ns();
    bool begun_ = false;
    Once<Kvm> kvm_;
    Vm vm_;
    Once<> vm_made_;
    Once<CpuidTable> cpuid_;
    std::unique_ptr<Worker> worker_;  // last: it ends before what it uses goes
};

}  // namespace wisp
