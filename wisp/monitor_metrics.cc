// SPDX-License-Identifier: Apache-2.0
//
// What the process counts as a whole, by Firecracker's groups and keys.
#include "base/log.h"
#include "vmm/metrics/prometheus.h"
#include "wisp/monitor.h"

namespace wisp {

namespace {

struct Key {
    const char* api;  // as a client sees it
    const char* vmm;  // without the way through the API
    const char* said;
};
constexpr Key kLatencies[] = {
    // by MachineDriver::Operation
    {"pause_vm", "vmm_pause_vm", "pause vm"},
    {"resume_vm", "vmm_resume_vm", "resume vm"},
    {"full_create_snapshot", "vmm_full_create_snapshot", "create full snapshot"},
    {"diff_create_snapshot", "vmm_diff_create_snapshot", "create diff snapshot"},
    {"load_snapshot", "vmm_load_snapshot", "load snapshot"},
};
static_assert(std::size(kLatencies) == MachineDriver::kOperations);

// A signal that would be counted here ends the process, but for SIGPIPE, which is an error of the write.
constexpr const char* kSignals[] = {"sigbus", "sigsegv", "sigxfsz", "sigxcpu", "sigpipe", "sighup", "sigill"};

struct Phase {
    const char* name;
    Mark mark;
};
constexpr Phase kBootPhases[] = {
    {"vm_created", Mark::kVmCreated},
    {"kernel_loaded", Mark::kKernelLoaded},
    {"first_instruction", Mark::kFirstInstruction},
    {"init", Mark::kInit},
};

}  // namespace

void Monitor::machine_took(Operation operation, uint64_t start_ns) {
    const auto number = static_cast<unsigned>(operation);
    machine_latencies_us_[number] = (monotonic_ns() - start_ns) / 1000;
    LOG_INFO("'%s' VMM action took %lu us.", kLatencies[number].said, machine_latencies_us_[number]);
}

void Monitor::took(Operation operation, uint64_t us) {
    const auto number = static_cast<unsigned>(operation);
    latencies_us_[number] = us;
    LOG_INFO("'%s' API request took %lu us.", kLatencies[number].said, us);
}

void Monitor::visit_metrics(MetricsVisitor& visitor) const {
    visitor.group("api_server");
    visitor.value("process_startup_time_us", process_startup_us_);
    visitor.value("process_startup_time_cpu_us", process_startup_cpu_us_);
    api_metrics_(visitor);
    Machine* const machine = machine_->machine();
    machine ? machine->visit_metrics(visitor) : Machine::visit_no_metrics(visitor);

    visitor.group("latencies_us");
    for (size_t i = 0; i < kOperations; ++i) {
        visitor.value(kLatencies[i].api, latencies_us_[i]);
        visitor.value(kLatencies[i].vmm, machine_latencies_us_[i]);
    }
    visitor.group("logger");
    visitor.count("missed_metrics_count", metrics_->missed());
    visitor.count("metrics_fails", metrics_->failed());
    visitor.count("missed_log_count", log::dropped());
    visitor.count("rate_limited_log_count", log::left_out());
    visitor.group("signals");
    for (const char* name : kSignals) visitor.count(name, 0);
    visitor.group("seccomp");
    visitor.count("num_faults", 0);  // the first ends the process
    visitor.group("vmm");
    visitor.count("panic_count", 0);
    visitor.group("interrupts");  // of devices on PCI
    visitor.count("triggers", 0);
    visitor.count("config_updates", 0);
}

std::string Monitor::prometheus() const {
    PrometheusMetrics page;
    visit_metrics(page);
    page.own_count("vcpu_exits", machine_->machine() ? machine_->machine()->exits() : 0);
    page.own_value("loop_longest_turn_seconds", static_cast<double>(devices_.longest_turn_ns()) / 1e9);
    for (const Phase& phase : kBootPhases) {
        Latency once;  // so that those of many VMs add up
        if (const uint64_t ns = timeline_.since_start_ns(phase.mark)) once.record(ns);
        page.own_latency("boot_phase_duration", "until", phase.name, once);
    }
    return page.text();
}

}  // namespace wisp
