// SPDX-License-Identifier: Apache-2.0
#include "vmm/policy/seccomp.h"

#include "base/fd.h"
#include "base/limits.h"

namespace wisp {

Seccomp Seccomp::none() {
    Seccomp seccomp;
    seccomp.source_ = Source::kNone;
    return seccomp;
}

Result<Seccomp> Seccomp::create(const std::optional<std::string>& filter_file) {
    Seccomp seccomp;
    if (!filter_file) return seccomp;
    seccomp.source_ = Source::kFile;
    const std::string& path = *filter_file;
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
            if (phase == policy::Phase::kControl) return policy::install(file_.control);
            if (phase == policy::Phase::kVcpu) return policy::install(file_.vcpu);
            if (phase == policy::Phase::kDrive) return policy::install(file_.loop);
            return {};
        case Source::kNone:
            return {};
    }
    return {};
}

}  // namespace wisp
