// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/msr.h"

#include <algorithm>

#include "vmm/kvm/ioctl.h"
#include "vmm/kvm/kvm.h"

namespace wisp {

namespace {

struct MsrRange {
    uint32_t first, last;
    const char* why;

    bool contains(uint32_t index) const { return index >= first && index <= last; }
};

bool is_in(std::span<const MsrRange> ranges, uint32_t index) {
    return std::ranges::any_of(ranges, [=](const MsrRange& range) { return range.contains(index); });
}

// KVM lists these as state, but a guest of this monitor has none in them. Numbers: Intel SDM vol. 4, AMD APM vol. 2
// appendix A, Linux's asm/kvm_para.h and asm/hyperv-tlfs.h.
constexpr MsrRange kNotSaved[] = {
    {0x40000000, 0x400001ff, "Hyper-V: CPUID does not offer it, and a write of 0 makes KVM allocate its state"},
    {0x480, 0x493, "what VMX can do: KVM makes it from CPUID"},
    {0x8b, 0x8b, "revision of the microcode: the host's"},
    {0xc0010015, 0xc0010015, "AMD's hardware configuration: fixed bits"},
    {0x10a, 0x10a, "IA32_ARCH_CAPABILITIES: what the CPU is, set with the CPU template"},
    {0x345, 0x345, "IA32_PERF_CAPABILITIES: what the CPU is"},
    {0xce, 0xce, "MSR_PLATFORM_INFO: what the CPU is"},
};

// Where a host refuses these, the guest cannot tell: CPUID shows neither counters nor the feature.
constexpr MsrRange kHarmless[] = {
    {0x3a, 0x3a, "IA32_FEATURE_CONTROL: locks VMX, which PVM hosts do not have"},
    {0xc1, 0xc8, "performance counters"},
    {0x186, 0x18d, "performance event selectors"},
    {0x309, 0x30c, "fixed counters"},
    {0x38d, 0x392, "control of counters"},
    {0x3f1, 0x3f2, "precise event sampling"},
    {0x4c1, 0x4c8, "performance counters, written in full width"},
    {0x600, 0x600, "debug store area"},
    {0xc0000300, 0xc0000303, "AMD's control of counters"},
    {0xc0010000, 0xc0010007, "AMD's performance counters"},
    {0xc0010200, 0xc001020b, "AMD's performance counters"},
};

/// KVM_GET_MSRS in parts; at each register that it refuses it stops and goes on behind that.
template <class Call, class Refused>
Result<void> in_parts(std::span<kvm_msr_entry> entries, Call call, Refused refused) {
    while (!entries.empty()) {
        const auto part = entries.first(std::min<size_t>(entries.size(), kvm::kMaxMsrs));
        size_t done = TRY(call(part));
        if (done < part.size()) TRY(refused(part[done++]));
        entries = entries.subspan(done);
    }
    return {};
}

std::vector<kvm_msr_entry> entries_of(std::span<const uint32_t> indices) {
    std::vector<kvm_msr_entry> entries;
    entries.reserve(indices.size());
    for (const uint32_t index : indices) entries.push_back({.index = index, .reserved = 0, .data = 0});
    return entries;
}

}  // namespace

Result<std::vector<uint32_t>> saved_msrs(const Kvm& kvm) {
    auto indices = TRY(kvm.msr_index_list());
    std::erase_if(indices, [](uint32_t index) { return is_in(kNotSaved, index); });
    return indices;
}

Result<std::vector<MsrValue>> read_msrs(const VcpuFd& vcpu, std::span<const uint32_t> indices) {
    auto entries = entries_of(indices);
    constexpr uint32_t kRefused = 1;  // marks an entry in its reserved field
    TRY(in_parts(
        entries, [&](std::span<kvm_msr_entry> part) { return vcpu.get_msrs(part); },
        [](kvm_msr_entry& entry) -> Result<void> {
            entry.reserved = kRefused;
            return {};
        }));
    std::vector<MsrValue> values;
    values.reserve(entries.size());
    for (const kvm_msr_entry& entry : entries)
        if (entry.reserved != kRefused) values.push_back({entry.index, entry.data});
    return values;
}

Result<std::vector<uint32_t>> write_msrs(const VcpuFd& vcpu, std::span<const MsrValue> values) {
    std::vector<uint32_t> indices;
    indices.reserve(values.size());
    for (const MsrValue& msr : values) indices.push_back(msr.index);
    const auto present = TRY(read_msrs(vcpu, indices));

    std::vector<kvm_msr_entry> changes;
    auto next = present.begin();  // `present` is in the order of `values`, without what the host does not have
    for (const MsrValue& msr : values) {
        const bool has = next != present.end() && next->index == msr.index;
        if (!has || next->value != msr.value) changes.push_back({.index = msr.index, .reserved = 0, .data = msr.value});
        if (has) ++next;
    }

    std::vector<uint32_t> skipped;
    TRY(in_parts(
        changes, [&](std::span<kvm_msr_entry> part) { return vcpu.try_set_msrs(part); },
        [&](const kvm_msr_entry& entry) -> Result<void> {
            if (!is_harmless_without({entry.index, entry.data}))
                return fail("KVM_SET_MSRS: this host does not take MSR 0x%x with 0x%llx", entry.index,
                            static_cast<unsigned long long>(entry.data));
            skipped.push_back(entry.index);
            return {};
        }));
    return skipped;
}

// A register of 0 that this host does not have: the guest did not use it.
bool is_harmless_without(const MsrValue& msr) {
    return msr.value == 0 || is_in(kHarmless, msr.index);
}

}  // namespace wisp
