// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/cpu_template.h"

#include <algorithm>
#include <initializer_list>
#include <span>

#include "vmm/kvm/cpuid.h"

namespace wisp {

namespace {

using config::CpuConfig;
using config::CpuidRegister;
using config::CpuTemplateName;

constexpr uint32_t bits(std::initializer_list<unsigned> numbers) {
    uint32_t mask = 0;
    for (const unsigned number : numbers) mask |= 1u << number;
    return mask;
}

/// Bits of `filter` become those of `value`.
struct Change {
    uint32_t leaf, subleaf;
    CpuidRegister reg;
    uint32_t filter, value = 0;
};

// Bit numbers are the Intel SDM's and AMD APM's.
constexpr uint32_t kFamilyModelStepping = 0x0fff3fff;  // CPUID.1:EAX
constexpr uint32_t kIvyBridge = 0x306e4, kHaswell = 0x306f2;

// What T2, T2S and T2CL show of leaf 1 on is what Haswell servers had: AVX2, but not what came after. Gone as well is
// what a guest cannot use: debug store, thermal and power management, monitor.
constexpr Change kLikeHaswell[] = {
    // DTES64, MONITOR, DS-CPL, SMX, EIST, TM2, CNXT-ID, SDBG, xTPR, PDCM, DCA
    {0x1, 0, CpuidRegister::kEcx, bits({2, 3, 4, 6, 7, 8, 10, 11, 14, 15, 18})},
    // PSN, DS, ACPI, SS, TM, PBE
    {0x1, 0, CpuidRegister::kEdx, bits({18, 21, 22, 27, 29, 31})},
    // SGX, HLE, RTM, RDT-M, MPX, RDT-A, AVX512F, AVX512DQ, RDSEED, ADX, AVX512-IFMA, PCOMMIT, CLFLUSHOPT, CLWB, PT,
    // AVX512PF, AVX512ER, AVX512CD, SHA, AVX512BW, AVX512VL
    {0x7, 0, CpuidRegister::kEbx,
     bits({2, 4, 11, 12, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31})},
    // AVX512-VBMI, UMIP, PKU, OSPKE, AVX512-VBMI2, GFNI, VAES, VPCLMULQDQ, AVX512-VNNI, AVX512-BITALG,
    // AVX512-VPOPCNTDQ, LA57, RDPID, SGX-LC
    {0x7, 0, CpuidRegister::kEcx, bits({1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 14, 16, 22, 30})},
    // AVX512-4VNNIW, AVX512-4FMAPS, FSRM, AVX512-VP2INTERSECT
    {0x7, 0, CpuidRegister::kEdx, bits({2, 3, 4, 8})},
    // XCR0: MPX, AVX-512, PKRU
    {0xd, 0, CpuidRegister::kEax, bits({3, 4, 5, 6, 7, 9})},
    // XSAVEC, XGETBV with ECX=1, XSAVES
    {0xd, 1, CpuidRegister::kEax, bits({1, 2, 3})},
    // PREFETCHW
    {0x80000001, 0, CpuidRegister::kEcx, bits({8})},
    // 1 GiB pages
    {0x80000001, 0, CpuidRegister::kEdx, bits({26})},
    // WBNOINVD
    {0x80000008, 0, CpuidRegister::kEbx, bits({9})},
};
constexpr Change kHaswellModel[] = {{0x1, 0, CpuidRegister::kEax, kFamilyModelStepping, kHaswell}};

// C3 goes back to Ivy Bridge.
constexpr Change kLikeIvyBridge[] = {
    {0x1, 0, CpuidRegister::kEax, kFamilyModelStepping, kIvyBridge},
    {0x1, 0, CpuidRegister::kEcx, bits({12, 22})},       // FMA, MOVBE
    {0x7, 0, CpuidRegister::kEbx, bits({3, 5, 8, 10})},  // BMI1, AVX2, BMI2, INVPCID
    {0x80000001, 0, CpuidRegister::kEcx, bits({5})},     // LZCNT
};

// What AMD's CPUs have and those of T2CL have not.
constexpr Change kWithoutAmdsOwn[] = {
    // SVM, extended APIC space, SSE4A, misaligned SSE, IBS, XOP, SKINIT, WDT, LWP, FMA4, TCE, NodeId, TBM, topology and
    // performance extensions, MONITORX
    {0x80000001, 0, CpuidRegister::kEcx, bits({2, 3, 6, 7, 10, 11, 12, 13, 15, 16, 17, 19, 21, 23, 24, 28, 29})},
    // MMX extensions, FXSR optimizations, 3DNow!
    {0x80000001, 0, CpuidRegister::kEdx, bits({22, 25, 30, 31})},
    // CLZERO, retired instruction count, FP error pointers, RDPRU
    {0x80000008, 0, CpuidRegister::kEbx, bits({0, 1, 2, 4})},
};

// IA32_ARCH_CAPABILITIES, for VMs that move between CPUs that differ in what they are vulnerable to.
constexpr uint32_t kArchCapabilities = 0x10a;
constexpr uint64_t kRdclNo = 1 << 0, kIbrsAll = 1 << 1, kRsba = 1 << 2, kSkipL1dFlush = 1 << 3, kMdsNo = 1 << 5,
                   kPschangeMcNo = 1 << 6, kTsxCtrl = 1 << 7;

constexpr uint32_t kSkylake = 0x50654, kCascadeLake = 0x50657, kIceLake = 0x606a6, kMilan = 0xa00f11;

struct Template {
    CpuVendor vendor;
    std::initializer_list<uint32_t> models;  // CPUID.1:EAX
    std::initializer_list<std::span<const Change>> changes;
    std::optional<uint64_t> arch_capabilities;
};

Template template_of(CpuTemplateName name) {
    switch (name) {
        case CpuTemplateName::kC3: {
            static constexpr auto kModels = {kSkylake, kCascadeLake, kIceLake};
            static constexpr std::initializer_list<std::span<const Change>> kChanges = {kLikeHaswell, kLikeIvyBridge};
            return {CpuVendor::kIntel, kModels, kChanges, std::nullopt};
        }
        case CpuTemplateName::kT2: {
            static constexpr auto kModels = {kSkylake, kCascadeLake, kIceLake};
            static constexpr std::initializer_list<std::span<const Change>> kChanges = {kLikeHaswell, kHaswellModel};
            return {CpuVendor::kIntel, kModels, kChanges, std::nullopt};
        }
        case CpuTemplateName::kT2S: {
            static constexpr auto kModels = {kSkylake, kCascadeLake};
            static constexpr std::initializer_list<std::span<const Change>> kChanges = {kLikeHaswell, kHaswellModel};
            return {CpuVendor::kIntel, kModels, kChanges, kRsba | kSkipL1dFlush};
        }
        case CpuTemplateName::kT2CL: {
            static constexpr auto kModels = {kCascadeLake, kIceLake};
            static constexpr std::initializer_list<std::span<const Change>> kChanges = {kLikeHaswell};
            return {CpuVendor::kIntel, kModels, kChanges,
                    kRdclNo | kIbrsAll | kSkipL1dFlush | kMdsNo | kPschangeMcNo | kTsxCtrl};
        }
        case CpuTemplateName::kT2A: {
            static constexpr auto kModels = {kMilan};
            static constexpr std::initializer_list<std::span<const Change>> kChanges = {kLikeHaswell, kWithoutAmdsOwn};
            return {CpuVendor::kAmd, kModels, kChanges, std::nullopt};
        }
        case CpuTemplateName::kNone:
            break;
    }
    return {CpuVendor::kOther, {}, {}, std::nullopt};
}

kvm_cpuid_entry2* find(CpuidTable& table, uint32_t leaf, uint32_t subleaf) {
    const auto found = std::ranges::find_if(
        table, [=](const kvm_cpuid_entry2& entry) { return entry.function == leaf && entry.index == subleaf; });
    return found == table.end() ? nullptr : &*found;
}

uint32_t& register_of(kvm_cpuid_entry2& entry, CpuidRegister reg) {
    switch (reg) {
        case CpuidRegister::kEax:
            return entry.eax;
        case CpuidRegister::kEbx:
            return entry.ebx;
        case CpuidRegister::kEcx:
            return entry.ecx;
        case CpuidRegister::kEdx:
            break;
    }
    return entry.edx;
}

}  // namespace

Result<CpuConfig> static_template(CpuTemplateName name, const CpuidTable& host) {
    if (name == CpuTemplateName::kNone) return CpuConfig{};
    const Template wanted = template_of(name);
    if (cpu_vendor(host) != wanted.vendor)
        return fail("Failed to get CPU template: CPU vendor mismatched between actual CPU and CPU template.");
    const auto model = std::ranges::find_if(host, [](const kvm_cpuid_entry2& entry) { return entry.function == 1; });
    if (model == host.end() || std::ranges::find(wanted.models, model->eax) == wanted.models.end())
        return fail("Failed to get CPU template: The current CPU model is not permitted to apply the CPU template.");

    CpuConfig made;
    for (const std::span<const Change> list : wanted.changes)
        for (const Change& change : list)
            made.cpuid_modifiers.push_back(
                {change.leaf, change.subleaf, 0, {{change.reg, {change.filter, change.value}}}});
    if (wanted.arch_capabilities)
        made.msr_modifiers.push_back({kArchCapabilities, {~uint64_t{0}, *wanted.arch_capabilities}});
    return made;
}

Result<CpuidTable> apply_cpuid_modifiers(CpuidTable table, const std::vector<config::CpuidLeafModifier>& modifiers) {
    for (const config::CpuidLeafModifier& modifier : modifiers) {
        kvm_cpuid_entry2* const entry = find(table, modifier.leaf, modifier.subleaf);
        if (!entry)
            return fail(
                "System configuration error: Failed to create guest config: Template changes a CPUID entry not "
                "supported by KVM: Leaf: %0x, Subleaf: %0x",
                modifier.leaf, modifier.subleaf);
        for (const auto& [reg, change] : modifier.modifiers) {
            uint32_t& value = register_of(*entry, reg);
            value = static_cast<uint32_t>(change.apply(value));
        }
    }
    return table;
}

Result<void> apply_msr_modifiers(const VcpuFd& vcpu, const std::vector<config::MsrModifier>& modifiers) {
    for (const config::MsrModifier& modifier : modifiers) {
        const auto before = vcpu.msr(modifier.addr);
        if (!before)
            return fail(
                "System configuration error: Failed to create guest config: KVM vcpu ioctl failed: Failed to get KVM "
                "vcpu msr: 0x%x",
                modifier.addr);
        const kvm_msr_entry entry{.index = modifier.addr, .reserved = 0, .data = modifier.bitmap.apply(*before)};
        if (auto set = vcpu.set_msrs(std::span(&entry, 1)); !set)
            return fail(
                "System configuration error: Error configuring the vcpu for boot: Failed to set MSRs: Not all given "
                "MSRs were set. (%s)",
                set.error().message.c_str());
    }
    return {};
}

Result<void> check_capabilities(const Kvm& kvm, const std::vector<config::KvmCapability>& capabilities) {
    std::string missing;
    for (const config::KvmCapability& capability : capabilities)
        if (!capability.remove && !kvm.has_capability(capability.number))
            missing += format("%s0x%x", missing.empty() ? "" : ", ", capability.number);
    if (missing.empty()) return {};
    return fail("Kvm error: Missing KVM capabilities: %s", missing.c_str());
}

}  // namespace wisp
