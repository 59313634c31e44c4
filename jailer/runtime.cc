// SPDX-License-Identifier: Apache-2.0
//
// What the C++ library would otherwise bring along to throw exceptions with: a tenth of a megabyte of unwinder and
// demangler, its relocations, and a pool of memory reserved at every start. The jailer starts once for each microVM and
// throws nothing: memory that runs out, or a length that is out of range, ends it.
#include <cstdlib>
#include <new>

#include "base/check.h"

namespace {

void* allocate(std::size_t size) {
    void* const memory = std::malloc(size ? size : 1);
    CHECK(memory != nullptr);
    return memory;
}

}  // namespace

void* operator new(std::size_t size) {
    return allocate(size);
}
void* operator new[](std::size_t size) {
    return allocate(size);
}
void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete[](void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
    std::free(memory);
}

// The library's containers call these by name where they would throw.
namespace std {
void __throw_length_error(const char*) {
    abort();
}
void __throw_logic_error(const char*) {
    abort();
}
void __throw_bad_alloc() {
    abort();
}
void __throw_bad_array_new_length() {
    abort();
}
void __throw_out_of_range_fmt(const char*, ...) {
    abort();
}
}  // namespace std
