// SPDX-License-Identifier: Apache-2.0
//
// What a machine counts, by Firecracker's groups and keys.
#include "vmm/devices/vsock.h"
#include "vmm/machine.h"

namespace wisp {

namespace {

void visit(const I8042::Counters& counters, MetricsVisitor& visitor) {
    visitor.group("i8042");
    visitor.count("error_count", counters.error_count);
    visitor.count("missed_read_count", 0);  // the bus takes single bytes only to it
    visitor.count("missed_write_count", 0);
    visitor.count("read_count", counters.read_count);
    visitor.count("reset_count", counters.reset_count);
    visitor.count("write_count", counters.write_count);
}

void visit(const Serial::Counters& counters, uint64_t rate_limited, MetricsVisitor& visitor) {
    visitor.group("uart");
    visitor.count("error_count", 0);
    visitor.count("flush_count", 0);  // there is nothing to flush it by
    visitor.count("missed_read_count", counters.missed_read_count);
    visitor.count("missed_write_count", counters.missed_write_count);
    visitor.count("read_count", counters.read_count);
    visitor.count("write_count", counters.write_count);
    visitor.count("rate_limiter_dropped_bytes", rate_limited);
}

using Accesses = std::array<LatencySummary, Vcpu::kAccesses>;

void visit(const Accesses& accesses, uint64_t kvmclock_ctrl_fails, MetricsVisitor& visitor) {
    static constexpr const char* kCounts[] = {"exit_io_in", "exit_io_out", "exit_mmio_read", "exit_mmio_write"};
    static constexpr const char* kTimes[] = {"exit_io_in_agg", "exit_io_out_agg", "exit_mmio_read_agg",
                                             "exit_mmio_write_agg"};
    visitor.group("vcpu");
    for (size_t i = 0; i < accesses.size(); ++i) visitor.count(kCounts[i], accesses[i].count);
    visitor.count("failures", 0);  // the first ends the VM
    visitor.count("kvmclock_ctrl_fails", kvmclock_ctrl_fails);
    for (size_t i = 0; i < accesses.size(); ++i) visitor.latency(kTimes[i], accesses[i]);
}

}  // namespace

void Machine::visit_metrics(MetricsVisitor& visitor) {
    drives_.visit_metrics(visitor);
    net_.visit_metrics(visitor);
    visit_vsock_counters(vsock_ ? vsock_->counters() : virtio::VsockCounters{}, visitor);
    visit(i8042_.counters(), visitor);
    visit(console_->serial().counters(), console_->rate_limited(), visitor);
    Accesses accesses{};
    uint64_t kvmclock_ctrl_fails = 0;
    for (const auto& vcpu : vcpus_) {
        for (size_t i = 0; i < accesses.size(); ++i) accesses[i].add(vcpu->accesses(static_cast<Vcpu::Access>(i)));
        kvmclock_ctrl_fails += vcpu->kvmclock_ctrl_fails();
    }
    visit(accesses, kvmclock_ctrl_fails, visitor);
}

void Machine::visit_no_metrics(MetricsVisitor& visitor) {
    Drives{}.visit_metrics(visitor);
    NetInterfaces{}.visit_metrics(visitor);
    visit_vsock_counters({}, visitor);
    visit(I8042::Counters{}, visitor);
    visit(Serial::Counters{}, 0, visitor);
    visit(Accesses{}, 0, visitor);
}

}  // namespace wisp
