// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/cpu_template.h"

#include <catch2/catch.hpp>
#include <cstring>

using namespace wisp;
using config::CpuidRegister;
using config::CpuTemplateName;

namespace {

kvm_cpuid_entry2 entry(uint32_t leaf, uint32_t subleaf, uint32_t all) {
    kvm_cpuid_entry2 made{};
    made.function = leaf;
    made.index = subleaf;
    made.eax = made.ebx = made.ecx = made.edx = all;
    return made;
}

/// A CPU that has everything.
CpuidTable cpu(const char* vendor, uint32_t model) {
    CpuidTable table;
    kvm_cpuid_entry2 name = entry(0, 0, 0x20);
    memcpy(&name.ebx, vendor, 4);
    memcpy(&name.edx, vendor + 4, 4);
    memcpy(&name.ecx, vendor + 8, 4);
    table.push_back(name);
    kvm_cpuid_entry2 features = entry(1, 0, ~0u);
    features.eax = model;
    table.push_back(features);
    for (const auto& [leaf, subleaf] : std::initializer_list<std::pair<uint32_t, uint32_t>>{
             {7, 0}, {0xd, 0}, {0xd, 1}, {0x80000001, 0}, {0x80000008, 0}})
        table.push_back(entry(leaf, subleaf, ~0u));
    return table;
}

const kvm_cpuid_entry2& find(const CpuidTable& table, uint32_t leaf, uint32_t subleaf = 0) {
    for (const auto& found : table)
        if (found.function == leaf && found.index == subleaf) return found;
    FAIL("no such leaf");
    __builtin_unreachable();
}

constexpr char kIntel[] = "GenuineIntel", kAmd[] = "AuthenticAMD";
constexpr uint32_t kSkylake = 0x50654, kCascadeLake = 0x50657, kIceLake = 0x606a6, kMilan = 0xa00f11, kGenoa = 0xa10f11;

std::string refusal(CpuTemplateName name, const CpuidTable& host) {
    const auto made = static_template(name, host);
    return made ? "" : made.error().message;
}

CpuidTable with(CpuTemplateName name, const CpuidTable& host) {
    const auto made = static_template(name, host);
    REQUIRE(made);
    const auto changed = apply_cpuid_modifiers(host, made->cpuid_modifiers);
    REQUIRE(changed);
    return *changed;
}

}  // namespace

TEST_CASE("static templates are for CPUs that they were made for") {
    const std::string vendor = "Failed to get CPU template: CPU vendor mismatched between actual CPU and CPU template.";
    const std::string model =
        "Failed to get CPU template: The current CPU model is not permitted to apply the CPU template.";
    const struct {
        CpuTemplateName name;
        bool skylake, cascade_lake, ice_lake;
    } kIntels[] = {{CpuTemplateName::kC3, true, true, true},
                   {CpuTemplateName::kT2, true, true, true},
                   {CpuTemplateName::kT2S, true, true, false},
                   {CpuTemplateName::kT2CL, false, true, true}};
    for (const auto& [name, skylake, cascade_lake, ice_lake] : kIntels) {
        CHECK(refusal(name, cpu(kIntel, kSkylake)) == (skylake ? "" : model));
        CHECK(refusal(name, cpu(kIntel, kCascadeLake)) == (cascade_lake ? "" : model));
        CHECK(refusal(name, cpu(kIntel, kIceLake)) == (ice_lake ? "" : model));
        CHECK(refusal(name, cpu(kIntel, 0x306f2)) == model);
        CHECK(refusal(name, cpu(kAmd, kMilan)) == vendor);
        CHECK(refusal(name, {}) == vendor);
    }
    CHECK(refusal(CpuTemplateName::kT2A, cpu(kAmd, kMilan)).empty());
    CHECK(refusal(CpuTemplateName::kT2A, cpu(kAmd, kGenoa)) == model);
    CHECK(refusal(CpuTemplateName::kT2A, cpu(kIntel, kSkylake)) == vendor);
    CHECK(refusal(CpuTemplateName::kNone, {}).empty());
}

TEST_CASE("static templates hide what CPUs came to have later") {
    for (const auto& [name, host] : {std::pair(CpuTemplateName::kT2, cpu(kIntel, kIceLake)),
                                     std::pair(CpuTemplateName::kT2S, cpu(kIntel, kSkylake)),
                                     std::pair(CpuTemplateName::kT2CL, cpu(kIntel, kCascadeLake)),
                                     std::pair(CpuTemplateName::kT2A, cpu(kAmd, kMilan)),
                                     std::pair(CpuTemplateName::kC3, cpu(kIntel, kIceLake))}) {
        const CpuidTable table = with(name, host);
        const uint32_t avx512 = 1u << 16, avx2 = 1u << 5, fma = 1u << 12;
        CHECK((find(table, 7).ebx & avx512) == 0);
        CHECK((find(table, 0xd).eax & 0xe0) == 0);  // and XCR0 says so too
        CHECK((find(table, 0xd).eax & 7) == 7);
        const bool old = name == CpuTemplateName::kC3;
        CHECK(((find(table, 7).ebx & avx2) != 0) == !old);
        CHECK(((find(table, 1).ecx & fma) != 0) == !old);
    }
    CHECK(find(with(CpuTemplateName::kT2, cpu(kIntel, kIceLake)), 1).eax == 0x306f2);
    CHECK(find(with(CpuTemplateName::kC3, cpu(kIntel, kIceLake)), 1).eax == 0x306e4);
    CHECK(find(with(CpuTemplateName::kT2CL, cpu(kIntel, kIceLake)), 1).eax == kIceLake);
    CHECK((find(with(CpuTemplateName::kT2A, cpu(kAmd, kMilan)), 0x80000001).ecx & (1u << 6)) == 0);  // SSE4A
    CHECK(static_template(CpuTemplateName::kT2, cpu(kIntel, kIceLake))->msr_modifiers.empty());
    CHECK(static_template(CpuTemplateName::kT2S, cpu(kIntel, kSkylake))->msr_modifiers.at(0).addr == 0x10a);
}

TEST_CASE("bits of a modifier replace those of the register, and x leaves them") {
    const config::CpuidLeafModifier modifier{
        7, 0, 0, {{CpuidRegister::kEbx, {0x0f, 0x05}}, {CpuidRegister::kEdx, {0xff000000, 0}}}};
    CpuidTable table = {entry(7, 0, 0xaaaaaaaa), entry(7, 1, 0xaaaaaaaa)};
    const auto changed = apply_cpuid_modifiers(table, {modifier});
    REQUIRE(changed);
    CHECK(find(*changed, 7).ebx == 0xaaaaaaa5);
    CHECK(find(*changed, 7).edx == 0x00aaaaaa);
    CHECK(find(*changed, 7).eax == 0xaaaaaaaa);
    CHECK(find(*changed, 7, 1).ebx == 0xaaaaaaaa);
}

TEST_CASE("a leaf that KVM does not give cannot be changed") {
    const auto changed = apply_cpuid_modifiers({entry(7, 0, 0)}, {{0x7, 0x1f, 0, {}}});
    REQUIRE_FALSE(changed);
    CHECK(changed.error().message ==
          "System configuration error: Failed to create guest config: Template changes a CPUID entry not supported by "
          "KVM: Leaf: 7, "
          "Subleaf: 1f");
}
