// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/load/kernel.h"

#include "vmm/boot/load/bzimage.h"
#include "vmm/boot/load/elf.h"
#include "vmm/boot/load/image_file.h"

namespace wisp::boot {

Result<LoadedKernel> load_kernel(const GuestMemory& memory, int fd, const std::string& path) {
    const ImageFile file = TRY(ImageFile::open(memory, fd, path));
    if (is_elf(file.head())) return load_elf(file);
    if (is_bzimage(file.head())) return load_bzimage(file);
    return file.refuse("neither an ELF kernel (vmlinux) nor a bzImage");
}

}  // namespace wisp::boot
