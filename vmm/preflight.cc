// SPDX-License-Identifier: Apache-2.0
#include "vmm/preflight.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "base/fd.h"
#include "base/limits.h"
#include "virtio/net/tap.h"

namespace wisp {

namespace {

/// Without O_NONBLOCK, a FIFO that was named by mistake would hang the API.
OwnedFd try_open(const std::string& path, int flags) {
    return OwnedFd(open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
}

}  // namespace

Result<void> check_boot_files(const config::BootSource& boot_source) {
    if (!try_open(boot_source.kernel_image_path, O_RDONLY).valid())
        return fail("The kernel file cannot be opened: %s", os_error(errno).c_str());
    if (boot_source.initrd_path && !try_open(*boot_source.initrd_path, O_RDONLY).valid())
        return fail("The initrd file cannot be opened due to invalid path or invalid permissions. %s",
                    os_error(errno).c_str());
    return {};
}

Result<void> check_drive_file(const config::Drive& drive) {
    const char* const prefix =
        "Unable to create the virtio block device: Virtio backend error: Error manipulating the backing file: ";
    const OwnedFd file = try_open(drive.path_on_host, drive.is_read_only ? O_RDONLY : O_RDWR);
    struct stat status{};
    if (!file.valid() || fstat(file.get(), &status) < 0)
        return fail("%s%s %s", prefix, os_error(errno).c_str(), drive.path_on_host.c_str());
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
        return fail("%sneither a regular file nor a block device: %s", prefix, drive.path_on_host.c_str());
    return {};
}

Result<void> check_new_drive_file(const std::string& path) {
    struct stat status{};
    if (stat(path.c_str(), &status) == 0) return {};
    return fail("Virtio backend error: Error manipulating the backing file: %s %s", os_error(errno).c_str(),
                path.c_str());
}

Result<void> check_tap(const std::string& name) {
    const char* const prefix = "Could not create the network device: Open tap device failed: ";
    const OwnedFd tun = try_open("/dev/net/tun", O_RDWR);
    if (!tun.valid()) return fail("%sCouldn't open /dev/net/tun: %s", prefix, os_error(errno).c_str());
    if (virtio::attach_tap(tun.get(), name) < 0)
        return fail(
            "%sError while creating ifreq structure: %s. Invalid TUN/TAP Backend provided by %s. Check our "
            "documentation on "
            "setting up the network devices.",
            prefix, os_error(errno).c_str(), name.c_str());
    return {};
}

Result<UnixListener> listen_for_vsock(const std::string& path) {
    const char* const prefix = "Cannot create backend for vsock device: Error binding to the host-side Unix socket: ";
    if (path.size() > max_unix_path()) return fail("%s%s", prefix, os_error(ENAMETOOLONG).c_str());
    auto listener = UnixListener::create(path, limits::kVsockBacklog);
    if (listener) return listener;
    const Error& error = listener.error();
    return fail("%s%s", prefix, error.errno_value ? os_error(error.errno_value).c_str() : error.message.c_str());
}

}  // namespace wisp
