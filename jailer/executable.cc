// SPDX-License-Identifier: Apache-2.0
#include "jailer/executable.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <climits>
#include <string_view>

#include "jailer/deadline.h"

namespace wisp::jailer {

namespace {

// As many links in a row as the kernel itself follows.
constexpr int kMaxLinks = 40;

// Up to here reads and writes are cheaper than the pipe the kernel sets up to copy inside.
constexpr size_t kSmallFile = 64 << 10;

// A buffer on the stack: each of its pages is a page fault, which costs more than one more read and write.
constexpr size_t kBlock = 8 << 10;

std::string last_component(const std::string& path) {
    return path.substr(path.rfind('/') + 1);
}
std::string directory_part(const std::string& path) {
    return path.substr(0, path.rfind('/') + 1);
}

// Where the symbolic link at `path` leads.
Result<std::string> read_link(const std::string& path) {
    char target[PATH_MAX];
    const ssize_t length = readlink(path.c_str(), target, sizeof target);
    if (length < 0) return fail_errno("cannot read symbolic link %s", path.c_str());
    const std::string_view text(target, static_cast<size_t>(length));
    return text.starts_with('/') ? std::string(text) : directory_part(path).append(text);
}

// The final link is resolved here, not by the kernel, because the jail is named after the file behind it.
Result<Executable> open_through_links(const std::string& given) {
    std::string path = given;
    for (int links = 0; links < kMaxLinks; ++links) {
        // O_NONBLOCK: a fifo or a device must fail below, not wait here.
        const int fd = open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0) return Executable{OwnedFd(fd), given, last_component(path)};
        if (errno != ELOOP) return fail_errno("cannot open %s (--exec-file)", path.c_str());
        path = TRY(read_link(path));
    }
    return fail("%s (--exec-file) goes through more than %d symbolic links", given.c_str(), kMaxLinks);
}

std::unexpected<Error> became_shorter(const Executable& from) {
    return fail("%s became shorter while it was copied", from.path.c_str());
}

Result<void> copy_small(const Executable& from, int to, const std::string& to_path) {
    char block[kBlock];
    for (uint64_t offset = 0; offset < from.size_bytes;) {
        const size_t got = TRY(read_at(from.fd.get(), block, sizeof block, offset, from.path));
        if (got == 0) return became_shorter(from);
        TRY(write_all(to, block, got, to_path));
        offset += got;
    }
    return {};
}

// A file system that can share blocks does so at once; page cache, which is what must not be shared, belongs to each
// file.
Result<void> copy_large(const Executable& from, int to, const std::string& to_path) {
    if (ioctl(to, FICLONE, from.fd.get()) == 0) return {};
    for (off_t offset = 0; static_cast<uint64_t>(offset) < from.size_bytes;) {
        TRY(check_deadline());
        const size_t rest = from.size_bytes - static_cast<uint64_t>(offset);
        ssize_t copied = copy_file_range(from.fd.get(), &offset, to, nullptr, rest, 0);
        if (copied < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS)) {
            // The two file systems do not copy into each other: through memory then.
            char block[kBlock];
            copied = pread(from.fd.get(), block, sizeof block, offset);
            if (copied > 0) {
                TRY(write_all(to, block, static_cast<size_t>(copied), to_path));
                offset += copied;
            }
        }
        if (copied < 0 && errno == EINTR) continue;
        if (copied < 0) return fail_errno("cannot copy %s to %s", from.path.c_str(), to_path.c_str());
        if (copied == 0) return became_shorter(from);
    }
    return {};
}

// Makes way for the copy where an earlier jail of this name left its own.
Result<void> remove_old_copy(const Directory& root, const std::string& name) {
    const std::string path = root.path + "/" + name;
    const OwnedFd old = TRY(open_beneath(root, name, O_PATH));
    const struct stat status = TRY(stat_of(old.get(), path));
    if (!S_ISREG(status.st_mode))
        return fail("%s stands where the executable goes and is not a file; remove it", path.c_str());
    if (status.st_nlink != 1)
        return fail("%s stands where the executable goes and has %lu names (hard links); remove it", path.c_str(),
                    static_cast<unsigned long>(status.st_nlink));
    if (unlinkat(root.fd.get(), name.c_str(), 0) < 0) return fail_errno("cannot remove %s", path.c_str());
    return {};
}

Result<OwnedFd> create_copy(const Executable& executable, const Directory& root) {
    constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    const char* const name = executable.name.c_str();
    int fd = openat(root.fd.get(), name, kFlags, executable.mode);
    if (fd < 0 && errno == EEXIST) {
        TRY(remove_old_copy(root, executable.name));
        fd = openat(root.fd.get(), name, kFlags, executable.mode);
    }
    if (fd < 0) return fail_errno("cannot create %s/%s", root.path.c_str(), name);
    return OwnedFd(fd);
}

}  // namespace

Result<Executable> open_executable(const std::string& path) {
    Executable executable = TRY(open_through_links(path));
    const struct stat status = TRY(stat_of(executable.fd.get(), path));
    if (!S_ISREG(status.st_mode)) return fail("%s (--exec-file) is not a regular file", path.c_str());
    if (!(status.st_mode & 0111)) return fail("%s (--exec-file) is not executable; chmod +x it", path.c_str());
    executable.size_bytes = static_cast<uint64_t>(status.st_size);
    executable.mode = status.st_mode & 0777;
    return executable;
}

Result<OwnedFd> copy_executable(const Executable& executable, const Directory& root, Undo& undo) {
    const std::string path = root.path + "/" + executable.name;
    const OwnedFd writable = TRY(create_copy(executable, root));
    undo.remove_file(root.fd.get(), executable.name);
    TRY(executable.size_bytes <= kSmallFile ? copy_small(executable, writable.get(), path)
                                            : copy_large(executable, writable.get(), path));

    // A file that is open for writing cannot be executed, so the copy is opened anew, and must be the very same.
    OwnedFd copy = TRY(open_beneath(root, executable.name, O_PATH));
    const struct stat written = TRY(stat_of(writable.get(), path));
    const struct stat opened = TRY(stat_of(copy.get(), path));
    if (written.st_ino != opened.st_ino || written.st_dev != opened.st_dev)
        return fail("%s was replaced while it was copied", path.c_str());
    return copy;
}

}  // namespace wisp::jailer
