// SPDX-License-Identifier: Apache-2.0
//
// Landlock, the kernel's rules that a process sets for itself: the last fence inside the jail, for the case that the
// monitor has been taken over and runs without its system call filters.
//
// What stays allowed: reading, writing, making and removing files, directories, sockets, fifos and symbolic links
// anywhere in the jail, and ioctls on its devices; executing the one copied program.
// What is not: executing anything else; making device nodes; moving a file to another directory (Linux 5.19 up);
// TCP sockets that connect or are bound (6.7); signals to processes outside and abstract Unix sockets of theirs (6.12);
// and, with any Landlock, mounting and tracing processes outside.
// Where the kernel has no Landlock, or has it switched off, there is none: the other fences do not rely on it.
#pragma once

#include "base/result.h"

namespace wisp::jailer {

/// Restricts the calling thread, and what it executes. Needs no_new_privs. `root_fd` is the jail's root directory,
/// `program_fd` the program in it.
Result<void> restrict_with_landlock(int root_fd, int program_fd);

}  // namespace wisp::jailer
