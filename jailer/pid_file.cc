// SPDX-License-Identifier: Apache-2.0
#include "jailer/pid_file.h"

#include <fcntl.h>

namespace wisp::jailer {

Result<void> write_pid_file(const Directory& root, const std::string& program, pid_t pid, Undo& undo) {
    const std::string name = program + ".pid";
    const std::string path = root.path + "/" + name;
    const OwnedFd fd(openat(root.fd.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    if (!fd.valid() && errno == EEXIST)
        return fail_errno("cannot create %s: this jail was used before; remove it first", path.c_str());
    if (!fd.valid()) return fail_errno("cannot create %s", path.c_str());
    undo.remove_file(root.fd.get(), name);
    const std::string text = format("%d", pid);
    return write_all(fd.get(), text.data(), text.size(), path);
}

}  // namespace wisp::jailer
