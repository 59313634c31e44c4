// SPDX-License-Identifier: Apache-2.0
//
// A file of compiled system call filters.
#include "vmm/policy/seccomp_file.h"

#include "tests/fuzz/fuzz.h"

using namespace wisp;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto parsed = parse_seccomp_file(std::as_bytes(std::span(data, size)));
    CHECK(!parsed || (parsed->loop.size() + parsed->vcpu.size()) * sizeof(sock_filter) <= size);
    return 0;
}
