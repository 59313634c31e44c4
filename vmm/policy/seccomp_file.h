// SPDX-License-Identifier: Apache-2.0
//
// --seccomp-filter FILE: system call filters of the operator's own, in the format of Firecracker's seccompiler: a map
// from the kind of thread to a BPF program, as bincode writes it (fixed-width little-endian integers). A count of
// entries; for each, the length of its name, the name, the number of instructions, and the instructions of 8 bytes
// each, as the kernel takes them.
//
// Threads: any; pure.
#pragma once

#include <linux/filter.h>

#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace wisp {

struct SeccompFile {
    std::vector<sock_filter> loop;     ///< "vmm": the devices' thread
    std::vector<sock_filter> control;  ///< "api": the control thread; the loop's where the file has none
    std::vector<sock_filter> vcpu;     ///< "vcpu": each vCPU's thread
};

/// The error says what is wrong with the file's contents. "vmm" and "vcpu" must be
/// there. A program may be empty: no filter then.
Result<SeccompFile> parse_seccomp_file(std::span<const std::byte> contents);

}  // namespace wisp
