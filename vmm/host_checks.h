// SPDX-License-Identifier: Apache-2.0
//
// What the host must have for a resource to be of use: looked at when a client configures it, so that the client hears
// of a wrong path then and not at the start. Nothing is kept open; the start opens everything again, and may still
// fail. Messages are Firecracker's.
#pragma once

#include <string>

#include "base/result.h"
#include "vmm/config/resources.h"

namespace wisp {

/// "No such file or directory (os error 2)"
std::string os_error(int errno_value);

/// The kernel and the initrd can be read.
Result<void> check_boot_files(const config::BootSource& boot_source);

/// The file can be opened as the drive will open it, and is one that can be a disk.
Result<void> check_drive_file(const config::Drive& drive);

/// The tap exists, or can be made, and nobody else has it.
Result<void> check_tap(const std::string& name);

/// A Unix socket can be bound there.
Result<void> check_socket_path(const std::string& path);

}  // namespace wisp
