// SPDX-License-Identifier: Apache-2.0
//
// Which system call filters this run has: Wisp's own (vmm/policy), an operator's (--seccomp-filter), or none
// (--no-seccomp).
//
// Threads: immutable once made; install() works on the calling thread, and kSetUp's on all that there are.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "vmm/policy/filter.h"
#include "vmm/policy/seccomp_file.h"

namespace wisp {

class Seccomp {
public:
    /// No filters at all.
    static Seccomp none();
    /// Wisp's own filters, or those of the operator's file, where there is one.
    static Result<Seccomp> create(const std::optional<std::string>& filter_file);

    /// Narrows what the calling thread (kSetUp: every thread) may do, for good. Threads that it starts inherit it. An
    /// operator's filters know no set-up phase: until the guest runs there is none then.
    Result<void> install(policy::Phase phase) const;

private:
    enum class Source : uint8_t { kOwn, kFile, kNone };
    Source source_ = Source::kOwn;
    SeccompFile file_;
};

}  // namespace wisp
