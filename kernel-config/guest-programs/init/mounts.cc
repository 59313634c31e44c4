// SPDX-License-Identifier: Apache-2.0
// The file systems that user land expects, and their orderly end.

#include "init.h"

namespace {

struct Mount {
    const char* type;
    const char* target;
    unsigned long flags;
    const char* options;
};

// Only what programs look for: each costs a boot some ten thousand instructions.
constexpr Mount kMounts[] = {
    {"proc", "/proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, nullptr},
    {"sysfs", "/sys", MS_NOSUID | MS_NOEXEC | MS_NODEV, nullptr},
    {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
    {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"},
    {"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755"},
    {"tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777"},
};

void mount_one(const Mount& mount) {
    sys::mkdir(mount.target, 0755);  // there already in the image; needed under /dev and in a foreign root
    const int error = sys::mount(mount.type, mount.target, mount.type, mount.flags, mount.options);
    // EBUSY: an initrd mounted it before us and moved it here.
    if (error < 0 && error != -EBUSY) say("init: cannot mount ", mount.target, ": ", error_text(error));
}

}  // namespace

void mount_devices() {
    mount_one({"devtmpfs", "/dev", MS_NOSUID, "mode=755"});
}

void mount_file_systems() {
    for (const Mount& mount : kMounts) mount_one(mount);
}

void unmount_file_systems() {
    // Drives mounted by the guest's programs, last first; a few rounds, because one mount may hold another.
    static char table[16384];
    for (int round = 0; round < 3; round++) {
        const int file = sys::open("/proc/mounts", O_RDONLY);
        if (file < 0) break;
        const long size = sys::read(file, table, sizeof table - 1);
        sys::close(file);
        if (size <= 0) break;
        table[size] = 0;
        bool any = false;
        for (long end = size - 1; end > 0;) {
            long start = end;
            while (start > 0 && table[start - 1] != '\n') start--;
            std::string_view line(table + start, static_cast<size_t>(end - start));
            end = start - 1;
            if (!line.starts_with("/dev/")) continue;  // only what holds data on a drive
            line.remove_prefix(line.find(' ') + 1);
            const size_t target_size = line.find(' ');
            if (target_size == line.npos || target_size <= 1) continue;  // the root is dealt with below
            const_cast<char*>(line.data())[target_size] = 0;
            any |= sys::umount(line.data(), 0) == 0;
        }
        if (!any) break;
    }
    sys::mount(nullptr, "/", nullptr, MS_REMOUNT | MS_RDONLY, nullptr);
}
