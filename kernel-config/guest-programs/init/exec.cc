// SPDX-License-Identifier: Apache-2.0
// How a child becomes a command: its environment, and the search for its file.

#include <cstring>

#include "init.h"

const char* const kEnvironment[] = {"PATH=/sbin:/usr/sbin:/bin:/usr/bin", "HOME=/root", "TERM=vt100", nullptr};

namespace {

constexpr const char* kSearchPath[] = {"/sbin/", "/usr/sbin/", "/bin/", "/usr/bin/"};

bool joined(char* out, size_t size, std::string_view directory, std::string_view name) {
    if (directory.size() + name.size() + 1 > size) return false;
    memcpy(out, directory.data(), directory.size());
    memcpy(out + directory.size(), name.data(), name.size());
    out[directory.size() + name.size()] = 0;
    return true;
}

}  // namespace

void become(const char* const* arguments) {
    sys::block_signals(0);
    const char* name = arguments[0];
    int error = -ENOENT;
    if (std::string_view(name).find('/') != std::string_view::npos) {
        error = sys::execve(name, arguments, kEnvironment);
    } else {
        char path[256];
        for (const char* directory : kSearchPath) {
            if (!joined(path, sizeof path, directory, name)) continue;
            const int this_error = sys::execve(path, arguments, kEnvironment);
            if (this_error != -ENOENT) error = this_error;
        }
    }
    say("init: cannot run ", name, ": ", error_text(error));
    sys::exit(error == -ENOENT ? kNotFound : kNotExecutable);
}
