// SPDX-License-Identifier: Apache-2.0
#include "jailer/devices.h"

#include <fcntl.h>
#include <linux/major.h>
#include <sys/sysmacros.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace wisp::jailer {

namespace {

// From the kernel's Documentation/admin-guide/devices.txt; the first two of MISC_MAJOR, the third of MEM_MAJOR.
constexpr unsigned kTunMinor = 200;
constexpr unsigned kKvmMinor = 232;
constexpr unsigned kUrandomMinor = 9;
constexpr size_t kMaxMiscList = 64 << 10;  // bytes of /proc/misc: a line for each of at most some hundred devices

Result<void> make_node(const Directory& directory, const char* name, unsigned major, unsigned minor, Undo& undo) {
    const char* const path = directory.path.c_str();
    if (mknodat(directory.fd.get(), name, S_IFCHR | 0600, makedev(major, minor)) < 0) {
        if (errno == EEXIST)
            return fail_errno("cannot make device node %s/%s: this jail was used before; remove it first", path, name);
        return fail_errno("cannot make device node %s/%s", path, name);
    }
    undo.remove_file(directory.fd.get(), name);
    return {};
}

}  // namespace

std::optional<unsigned> find_userfaultfd_minor() {
    // The host's own node says it with one call; /proc/misc knows it where /dev is a container's small one.
    struct stat status;
    if (stat("/dev/userfaultfd", &status) == 0 && S_ISCHR(status.st_mode) && major(status.st_rdev) == MISC_MAJOR)
        return minor(status.st_rdev);
    const auto list = read_file("/proc/misc", kMaxMiscList);
    if (!list) return std::nullopt;
    const size_t at = list->find(" userfaultfd\n");
    if (at == std::string::npos) return std::nullopt;
    const size_t line = list->rfind('\n', at);
    return static_cast<unsigned>(strtoul(list->c_str() + (line == std::string::npos ? 0 : line), nullptr, 10));
}

Result<void> make_device_nodes(const Directory& dev, const Directory& dev_net,
                               std::optional<unsigned> userfaultfd_minor, Undo& undo) {
    TRY(make_node(dev_net, "tun", MISC_MAJOR, kTunMinor, undo));
    TRY(make_node(dev, "kvm", MISC_MAJOR, kKvmMinor, undo));
    if (const auto made = make_node(dev, "urandom", MEM_MAJOR, kUrandomMinor, undo); !made)
        dprintf(2, "wisp-jailer: warning: %s\n", made.error().message.c_str());
    if (userfaultfd_minor) TRY(make_node(dev, "userfaultfd", MISC_MAJOR, *userfaultfd_minor, undo));
    return {};
}

}  // namespace wisp::jailer
