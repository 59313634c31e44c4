// SPDX-License-Identifier: Apache-2.0
//
// Runs the unit tests. Those tagged [kvm] need /dev/kvm: where it does not open they are left out, with one line that
// says why and how many.
#define CATCH_CONFIG_RUNNER
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdio>

#include "vmm/kvm/kvm.h"

namespace {

void leave_out_kvm(Catch::ConfigData& config, const std::string& reason) {
    size_t count = 0;
    for (const Catch::TestCase& test : Catch::getRegistryHub().getTestCaseRegistry().getAllTests())
        count += static_cast<size_t>(std::ranges::count(test.tags, "kvm"));
    fprintf(stderr, "skipped: %zu unit tests that need KVM: %s\n", count, reason.c_str());
    if (config.testsOrTags.empty()) config.testsOrTags.emplace_back();
    for (std::string& wanted : config.testsOrTags) wanted += "~[kvm]";
}

}  // namespace

int main(int argc, char** argv) {
    Catch::Session session;
    if (const int error = session.applyCommandLine(argc, argv); error != 0) return error;
    if (const auto kvm = wisp::Kvm::open(); !kvm) leave_out_kvm(session.configData(), kvm.error().message);
    return session.run();
}
