// SPDX-License-Identifier: Apache-2.0
#include "vmm/policy/seccomp.h"

#include "base/fd.h"
#include "base/limits.h"

namespace wisp {

Result<Seccomp> Seccomp::create(const Arguments& arguments) {
    Seccomp seccomp;
    if (arguments.no_seccomp) seccomp.source_ = Source::kNone;
    if (!arguments.seccomp_filter) return seccomp;
    seccomp.source_ = Source::kFile;
    const std::string& path = *arguments.seccomp_filter;
    const std::string contents = TRY_CONTEXT("--seccomp-filter", read_file(path, limits::kMaxSeccompFile));
    auto parsed = parse_seccomp_file(std::as_bytes(std::span(contents)));
    seccomp.file_ = TRY_CONTEXT("--seccomp-filter " + path, std::move(parsed));
    return seccomp;
}

Result<void> Seccomp::install(policy::Phase phase) const {
    switch (source_) {
        case Source::kOwn:
            return policy::install(phase);
        case Source::kFile:
            if (phase == policy::Phase::kLoop) return policy::install(file_.loop);
            if (phase == policy::Phase::kVcpu) return policy::install(file_.vcpu);
            return {};
        case Source::kNone:
            return {};
    }
    return {};
}

}  // namespace wisp
