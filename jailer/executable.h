// SPDX-License-Identifier: Apache-2.0
//
// The program to be jailed. It is copied, on purpose, rather than linked or mounted: two microVMs then share no page of
// program text through which one could watch the other.
#pragma once

#include <sys/types.h>

#include <string>

#include "jailer/path.h"

namespace wisp::jailer {

struct Executable {
    OwnedFd fd;
    std::string path;  ///< as the operator gave it, for messages
    std::string
        name;  ///< of the file behind all symbolic links: names the jail's directory, its pid file and its cgroup
    uint64_t size_bytes = 0;
    mode_t mode = 0;
};

/// Opens the operator's executable. Anything but a regular file that someone may execute is an error.
Result<Executable> open_executable(const std::string& path);

/// Copies it to `root` under its name and returns the copy, open for reading and not for writing. A file of that name
/// is replaced, never written into: someone may hold it open, or it may be another name of a file elsewhere.
Result<OwnedFd> copy_executable(const Executable& executable, const Directory& root, Undo& undo);

}  // namespace wisp::jailer
