// SPDX-License-Identifier: Apache-2.0
//
// How an ioctl of KVM is made: one that reads a structure, one that writes one, and those whose argument is an array.
// For the wrappers in this folder alone.
#pragma once

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/result.h"

namespace wisp::kvm {

/// Calls `request`, an error names it by `name`. Linux may interrupt some of them before they have begun.
template <class Argument>
Result<int> call(int fd, unsigned long request, const char* name, Argument argument) {
    int done;
    do {
        done = ioctl(fd, request, argument);
    } while (done < 0 && errno == EINTR);
    if (done < 0) return fail_errno("%s", name);
    return done;
}

template <class T>
Result<T> get(int fd, unsigned long request, const char* name) {
    T value{};
    TRY(call(fd, request, name, &value));
    return value;
}

template <class T>
Result<void> set(int fd, unsigned long request, const char* name, const T& value) {
    TRY(call(fd, request, name, &value));
    return {};
}

// kvm_cpuid2, kvm_msrs, kvm_msr_list and kvm_xsave end in a flexible array, which some versions of the kernel's headers
// declare in a way that has another size in C++ than in C. The size is part of the request's number, so both are stated
// here as the kernel has them.
struct ArrayHeader {
    uint32_t count;
    uint32_t padding;
};
struct XsaveArea {
    std::byte bytes[4096];
};
inline constexpr unsigned long kGetMsrIndexList = _IOWR(KVMIO, 0x02, uint32_t);
inline constexpr unsigned long kGetSupportedCpuid = _IOWR(KVMIO, 0x05, ArrayHeader);
inline constexpr unsigned long kGetMsrs = _IOWR(KVMIO, 0x88, ArrayHeader);
inline constexpr unsigned long kSetMsrs = _IOW(KVMIO, 0x89, ArrayHeader);
inline constexpr unsigned long kGetXsave = _IOR(KVMIO, 0xa4, XsaveArea);
inline constexpr unsigned long kSetXsave = _IOW(KVMIO, 0xa5, XsaveArea);
inline constexpr unsigned long kGetXsave2 = _IOR(KVMIO, 0xcf, XsaveArea);
inline constexpr unsigned long kSetCpuid2 = _IOW(KVMIO, 0x90, ArrayHeader);
inline constexpr unsigned long kGetCpuid2 = _IOWR(KVMIO, 0x91, ArrayHeader);

/// The argument of such a request: the header, then room for `capacity` entries.
template <class Entry>
class ArrayRequest {
public:
    explicit ArrayRequest(size_t capacity) : bytes_(new std::byte[sizeof(ArrayHeader) + capacity * sizeof(Entry)]()) {
        header().count = static_cast<uint32_t>(capacity);
    }
    ArrayHeader& header() { return *reinterpret_cast<ArrayHeader*>(bytes_.get()); }
    Entry* entries() { return reinterpret_cast<Entry*>(bytes_.get() + sizeof(ArrayHeader)); }

private:
    std::unique_ptr<std::byte[]> bytes_;
};

inline constexpr unsigned kMaxCpuidEntries = 256;  // KVM_MAX_CPUID_ENTRIES
inline constexpr unsigned kMaxMsrs = 256;          // MAX_IO_MSRS: of one KVM_GET_MSRS or KVM_SET_MSRS

}  // namespace wisp::kvm
