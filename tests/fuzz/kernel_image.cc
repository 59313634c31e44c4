// SPDX-License-Identifier: Apache-2.0
//
// A kernel image: ELF, with a PVH note or without, or bzImage.
#include "tests/fuzz/fuzz.h"
#include "vmm/boot/load/kernel.h"

using namespace wisp;

namespace {

constexpr uint64_t kMemory = 32 << 20;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const fuzz::File file(".kernel");
    fuzz::be_quiet();
    const std::string& path = file.write({reinterpret_cast<const char*>(data), size});
    const auto fd = open_file(path, O_RDONLY);
    CHECK(fd.has_value());
    const GuestMemory memory = fuzz::guest_memory(kMemory);
    const auto kernel = boot::load_kernel(memory, fd->get(), path);
    if (kernel)
        CHECK(kernel->start.value < kernel->end.value && kernel->end.value <= kMemory);
    else
        CHECK(kernel.error().message.find('\n') == std::string::npos);
    return 0;
}
