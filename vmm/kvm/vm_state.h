// SPDX-License-Identifier: Apache-2.0
//
// VmState: what KVM holds of a VM beside its vCPUs and memory: interrupt controllers, kvmclock, and the i8254 if the
// guest made it.
//
// restore() trusts nothing: a field that KVM would take without a check is refused by name here.
//
// Threads: the loop's, while all vCPUs are paused.
#pragma once

#include <linux/kvm.h>

#include <array>
#include <optional>

#include "base/record.h"
#include "vmm/kvm/vm.h"

namespace wisp {

struct VmState {
    std::array<kvm_irqchip, 3> irqchips{};  ///< PIC master and slave, IOAPIC: KVM_IRQCHIP_… is the index
    kvm_clock_data clock{};
    std::optional<kvm_pit_state2> pit;

    static constexpr RecordType kRecord{"kvm ", "kvm", 1, Need::kRequired};

    /// What kvmclock shows after apply().
    enum class Time {
        kContinue,  ///< the time of capture(): for the guest no time has passed
        kAdvance,   ///< the time that has passed on the host since capture() is added, by the host's clock
    };

    static Result<VmState> capture(const Vm& vm);
    /// Into a VM that has its irqchip and all of its vCPUs, their state applied, but has not run. Makes the i8254 if
    /// there is one. Time::kAdvance is an error if capture() had no clock of the host (Linux before 5.16).
    Result<void> apply(const Vm& vm, Time time) const;

    /// The content of a group of type kRecord.
    void save(RecordWriter& writer) const;
    static Result<VmState> restore(RecordReader& reader);
};

}  // namespace wisp
