// SPDX-License-Identifier: Apache-2.0
//
// What the host must have for a resource to be of use: looked at when a client configures it, so that the client hears
// of a wrong path then and not at the start. Nothing is kept open; the start opens everything again, and may still
// fail. Messages are Firecracker's.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unix_socket.h"
#include "vmm/config/resources.h"

namespace wisp {

/// The kernel and the initrd can be read.
Result<void> check_boot_files(const config::BootSource& boot_source);

/// The file can be opened as the drive will open it, and is one that can be a disk.
Result<void> check_drive_file(const config::Drive& drive);

/// The file that a drive shall have from now on exists.
Result<void> check_new_drive_file(const std::string& path);

/// The tap exists, or can be made, and no other process has it.
Result<void> check_tap(const std::string& name);

/// The socket where host programs find the guest.
Result<UnixListener> listen_for_vsock(const std::string& path);

}  // namespace wisp
