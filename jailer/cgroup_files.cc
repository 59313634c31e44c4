// SPDX-License-Identifier: Apache-2.0
#include "jailer/cgroup_files.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

namespace wisp::jailer {

namespace {

constexpr size_t kMaxMountinfo = 16 << 20;   // some 100,000 mounts
constexpr size_t kMaxOwnCgroups = 64 << 10;  // a line for each hierarchy, of which there are at most some dozen

/// Takes what stands before `separator` off the front of `text`.
std::string_view take(std::string_view& text, char separator) {
    const size_t end = text.find(separator);
    const std::string_view part = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    return part;
}

bool has_word(std::string_view list, std::string_view word) {
    while (!list.empty())
        if (take(list, ',') == word) return true;
    return false;
}

// mountinfo writes space, tab, line end and backslash as a backslash and three octal digits.
std::string unescape(std::string_view text) {
    std::string plain;
    for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && i + 3 < text.size()) {
            plain += static_cast<char>((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 | (text[i + 3] - '0'));
            i += 3;
        } else {
            plain += text[i];
        }
    }
    return plain;
}

// The usual place first: it costs one call, where the mount table costs in proportion to its length.
Result<Directory> open_if_mounted(const std::string& path, long magic) {
    Directory directory = TRY(open_directory(path));
    struct statfs status;
    if (fstatfs(directory.fd.get(), &status) < 0) return fail_errno("cannot stat the file system at %s", path.c_str());
    if (status.f_type != magic) return fail("%s is not a cgroup hierarchy of that version", path.c_str());
    return directory;
}

Result<std::string> mount_from_table(const char* type, const std::string& option) {
    return find_mount(TRY(read_file("/proc/self/mountinfo", kMaxMountinfo)), type, option);
}

}  // namespace

Result<Directory> open_hierarchy_v1(const std::string& controller) {
    if (auto usual = open_if_mounted("/sys/fs/cgroup/" + controller, CGROUP_SUPER_MAGIC)) return usual;
    const std::string path = TRY(mount_from_table("cgroup", controller));
    if (path.empty())
        return fail("cgroup controller %s is not mounted in version 1; mount it, or use --cgroup-version 2",
                    controller.c_str());
    return open_directory(path);
}

Result<Directory> open_hierarchy_v2() {
    for (const char* path : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"})
        if (auto usual = open_if_mounted(path, CGROUP2_SUPER_MAGIC)) return usual;
    const std::string path = TRY(mount_from_table("cgroup2", ""));
    if (path.empty()) return fail("no cgroup version 2 hierarchy is mounted; mount it, or use --cgroup-version 1");
    return open_directory(path);
}

std::string find_mount(std::string_view mountinfo, std::string_view type, std::string_view option) {
    // "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue": proc_pid_mountinfo(5)
    while (!mountinfo.empty()) {
        std::string_view line = take(mountinfo, '\n');
        for (int field = 0; field < 4; ++field) take(line, ' ');
        const std::string_view mount_point = take(line, ' ');
        while (!line.empty() && take(line, ' ') != "-") {
        }
        if (take(line, ' ') != type) continue;
        take(line, ' ');
        if (option.empty() || has_word(line, option)) return unescape(mount_point);
    }
    return {};
}

Result<std::string> own_cgroup(const std::string& controller) {
    return find_own_cgroup(TRY(read_file("/proc/self/cgroup", kMaxOwnCgroups)), controller);
}

std::string find_own_cgroup(std::string_view text, std::string_view controller) {
    // "4:cpu,cpuacct:/path" for each version 1 hierarchy, "0::/path" for version 2: cgroups(7)
    while (!text.empty()) {
        std::string_view line = take(text, '\n');
        take(line, ':');
        const std::string_view controllers = take(line, ':');
        if (controller.empty() ? controllers.empty() : has_word(controllers, controller)) return std::string(line);
    }
    return "/";
}

std::vector<std::string> split_path(std::string_view path) {
    std::vector<std::string> components;
    while (!path.empty())
        if (const std::string_view component = take(path, '/'); !component.empty()) components.emplace_back(component);
    return components;
}

Result<std::string> read_cgroup_file(const Directory& cgroup, const std::string& file) {
    const OwnedFd fd = TRY(open_beneath(cgroup, file, O_RDONLY));
    char text[4096];  // a cgroup's file is written by the kernel in one piece of at most a page
    const size_t size = TRY(read_at(fd.get(), text, sizeof text, 0, cgroup.path + "/" + file));
    return std::string(text, size);
}

Result<void> write_cgroup_file(const Directory& cgroup, const std::string& file, const std::string& value) {
    const OwnedFd fd = TRY(open_beneath(cgroup, file, O_WRONLY));
    // In one piece: each write is a setting of its own.
    if (write(fd.get(), value.data(), value.size()) < 0)
        return fail_errno("cannot set %s/%s to '%s'", cgroup.path.c_str(), file.c_str(), value.c_str());
    return {};
}

}  // namespace wisp::jailer
