// SPDX-License-Identifier: Apache-2.0
#include "vmm/build/head_start.h"

#include <sched.h>

#include "vmm/kvm/vcpu.h"

namespace wisp {

Result<std::unique_ptr<HeadStart>> HeadStart::begin() {
    auto start = std::make_unique<HeadStart>();
    if (!Worker::has_cpu_of_its_own()) return start;
    start->worker_ = TRY_CONTEXT("vCPU 0", Worker::start(vcpu_thread_name(0)));
    start->begun_ = true;
    start->worker_->run([self = start.get()] {
        if (self->make_vm() && !is_where_grace_periods_end()) self->ask_cpuid();
    });
    return start;
}

const Result<Kvm>& HeadStart::kvm() {
    kvm_.run(Kvm::open);
    return kvm_.wait();
}

Result<void> HeadStart::make_vm() {
    vm_made_.run([this]() -> Result<void> {
        const auto& kvm = this->kvm();
        if (!kvm) return std::unexpected(kvm.error());
        vm_ = TRY(kvm->create_vm());
        return {};
    });
    return vm_made_.wait();
}

bool HeadStart::has_vm_soon() {
    if (begun_) vm_made_.look_out();
    return vm_made_.wait_for(std::chrono::milliseconds{1});
}

void HeadStart::ask_cpuid() {
    cpuid_.run([this]() -> Result<CpuidTable> {
        const auto& kvm = this->kvm();
        if (!kvm) return std::unexpected(kvm.error());
        return kvm->supported_cpuid();
    });
}

bool HeadStart::is_where_grace_periods_end() {
    return sched_getcpu() == 0;
}

const Result<CpuidTable>& HeadStart::cpuid() {
    ask_cpuid();
    return wait_for(cpuid_);
}

}  // namespace wisp
