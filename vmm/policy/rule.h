// SPDX-License-Identifier: Apache-2.0
//
// What a system call policy is made of. Policies are data (setup.h, loop.h, vcpu.h): a line for each call, with the
// arguments it may have and the reason it is needed. The compiler beside this file makes BPF of them when Wisp is
// built.
#pragma once

#include <sys/mman.h>

#include <cstdint>

namespace wisp::policy {

/// A condition on one argument: (argument & mask) == value.
struct Check {
    unsigned argument;  ///< 0 to 5
    uint64_t mask;
    uint64_t value;
};

inline constexpr unsigned kMaxChecks = 2;

/// One call that is allowed, if all of its checks hold. A call may have several rules; one of them has to fit.
struct Rule {
    const char* call;  ///< as in the kernel's table
    const char* reason;
    Check checks[kMaxChecks] = {};
    unsigned check_count = 0;
};

constexpr Check is(unsigned argument, uint64_t value) {
    return {argument, ~uint64_t{0}, value};
}
/// None of `bits` is set.
constexpr Check without(unsigned argument, uint64_t bits) {
    return {argument, bits, 0};
}

constexpr Rule allow(const char* call, const char* reason) {
    return {call, reason};
}
constexpr Rule allow(const char* call, Check check, const char* reason) {
    return {call, reason, {check}, 1};
}
constexpr Rule allow(const char* call, Check first, Check second, const char* reason) {
    return {call, reason, {first, second}, 2};
}

// ioctl's request is its second argument, of which the kernel looks at 32 bits; the others are the sign, or nothing.
constexpr Rule allow_ioctl(uint64_t request, const char* reason) {
    return allow("ioctl", Check{1, 0xffffffff, request & 0xffffffff}, reason);
}

}  // namespace wisp::policy
