// SPDX-License-Identifier: Apache-2.0
//
// Loading a bzImage. Source: kernel Documentation/x86/boot.rst. Internal to vmm/boot.
#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"
#include "vmm/boot/load/image_file.h"
#include "vmm/boot/load/kernel.h"

namespace wisp::boot {

/// True where a setup header is in its place, of whatever version.
bool is_bzimage(std::span<const std::byte> head);

Result<LoadedKernel> load_bzimage(const ImageFile& file);

}  // namespace wisp::boot
