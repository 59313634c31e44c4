// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/load/kernel.h"

#include <sys/mman.h>

#include <cstring>

#include "base/check.h"
#include "vmm/boot/load/bzimage.h"
#include "vmm/boot/load/elf.h"
#include "vmm/boot/load/image_file.h"

namespace wisp::boot {

Result<LoadedKernel> load_kernel(const GuestMemory& memory, int fd, const std::string& path, KernelMapping mapping) {
    ImageFile file = TRY(ImageFile::open(memory, fd, path, mapping));
    if (is_elf(file.head())) return load_elf(file);
    if (is_bzimage(file.head())) return load_bzimage(file);
    return file.refuse("neither an ELF kernel (vmlinux) nor a bzImage");
}

namespace {

/// Puts a private anonymous copy of [host, host + size) in its place.
Result<void> replace_by_copy(std::byte* host, size_t size) {
    void* copy = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (copy == MAP_FAILED) return fail_errno("cannot copy %zu KiB of the kernel image", size >> 10);
    memcpy(copy, host, size);
    madvise(copy, size, MADV_DONTDUMP);  // as all of guest memory
    // One step: at no time is there a hole where a vCPU or a device could look.
    if (mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, host) != MAP_FAILED) return {};
    const auto failure = fail_errno("cannot replace %zu KiB of the mapped kernel image", size >> 10);
    munmap(copy, size);
    return failure;
}

}  // namespace

Result<void> unshare_kernel(const GuestMemory& memory, LoadedKernel& kernel) {
    while (!kernel.mapped.empty()) {
        const MappedRange range = kernel.mapped.back();
        std::byte* host = memory.host_range(range.start, range.size);
        CHECK(host);
        TRY(replace_by_copy(host, range.size));
        kernel.mapped.pop_back();
    }
    return {};
}

}  // namespace wisp::boot
