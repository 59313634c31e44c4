// SPDX-License-Identifier: Apache-2.0
//
// CommandLine: the guest kernel's command line: the user's boot_args, or a default, and the words that the monitor
// adds.
//
// A user's boot_args may end in arguments for init, after a word `--`. The monitor adds its words before that: they are
// for the kernel, not for init.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wisp::boot {

/// The command line without boot_args. It is Firecracker's, word for word.
inline constexpr std::string_view kDefaultCommandLine =
    "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce";

/// The address of a virtio-mmio device's registers, and its interrupt.
struct VirtioMmioDevice {
    GuestAddress address;
    uint32_t gsi = 0;
};

/// The drive that holds the root file system.
struct RootDrive {
    enum class Access { kReadOnly, kReadWrite };
    Access access = Access::kReadWrite;
    std::string partuuid;  ///< empty for the drive as a whole, /dev/vda
};

class CommandLine {
public:
    /// Starts from `boot_args`, or from the default where there are none (empty ones stay empty).
    /// Refuses a byte that is not printable ASCII, and a line of limits::kMaxCommandLine bytes or more: the limit
    /// counts the terminating NUL.
    static Result<CommandLine> create(std::optional<std::string_view> boot_args);

    /// Adds words for the kernel. Each add_*() refuses what create() refuses, and then leaves the line as it was.
    Result<void> add(std::string_view words);
    /// root=/dev/vda or root=PARTUUID=…, then ro or rw.
    Result<void> add_root(const RootDrive& root);
    /// virtio_mmio.device=4K@0x…:gsi, for kernels without ACPI (kernel admin-guide/kernel-parameters.rst).
    Result<void> add_virtio_mmio(const VirtioMmioDevice& device);

    /// The whole line, without the NUL.
    std::string text() const;

private:
    std::string kernel_;
    std::string init_;  // what follows `--`, or empty
};

}  // namespace wisp::boot
