// SPDX-License-Identifier: Apache-2.0
// The console: messages, and a terminal for the interactive shell.

#include <sys/ioctl.h>

#include <cstring>

#include "init.h"

namespace {

// The terminal behind /dev/console, such as /dev/ttyS0: job control needs the device itself.
const char* active_terminal() {
    static char path[64] = "/dev/";
    constexpr size_t kPrefix = 5;
    const int file = sys::open("/sys/class/tty/console/active", O_RDONLY);
    if (file < 0) return nullptr;
    const long size = sys::read(file, path + kPrefix, sizeof path - kPrefix - 1);
    sys::close(file);
    if (size <= 1) return nullptr;
    // With several consoles the last one named is /dev/console.
    size_t begin = kPrefix;
    size_t end = kPrefix;
    for (; path[end] != 0 && path[end] != '\n'; end++) {
        if (path[end] == ' ') begin = end + 1;
    }
    path[end] = 0;
    if (begin != kPrefix) memmove(path + kPrefix, path + begin, end - begin + 1);
    return path;
}

struct ErrorText {
    int error;
    std::string_view text;
};

constexpr ErrorText kErrorTexts[] = {
    {EPERM, "operation not permitted\n"},
    {ENOENT, "no such file or directory\n"},
    {EIO, "input/output error\n"},
    {E2BIG, "argument list too long\n"},
    {ENOEXEC, "not an executable format\n"},
    {ENOMEM, "out of memory\n"},
    {EACCES, "permission denied\n"},
    {EBUSY, "busy\n"},
    {ENODEV, "not supported by this kernel\n"},
    {ENOTDIR, "not a directory\n"},
    {EISDIR, "is a directory\n"},
    {EINVAL, "invalid argument\n"},
    {EROFS, "read-only file system\n"},
    {ELOOP, "too many symbolic links\n"},
    {ESRCH, "no such process\n"},
};

}  // namespace

std::string_view error_text(int negative_errno) {
    for (const ErrorText& entry : kErrorTexts) {
        if (entry.error == -negative_errno) return entry.text;
    }
    return "unexpected error\n";
}

void say(std::string_view a, std::string_view b, std::string_view c, std::string_view d) {
    // One write a line, so that lines of several processes do not mix.
    char line[512];
    size_t size = 0;
    for (const std::string_view part : {a, b, c, d}) {
        for (const char letter : part) {
            if (size < sizeof line) line[size++] = letter;
        }
    }
    sys::write(2, line, size);
}

bool console_is_terminal() {
    struct {
        unsigned short rows, columns, x, y;
    } size;
    return sys::ioctl(0, TIOCGWINSZ, &size) == 0;
}

void take_console_as_terminal() {
    sys::setsid();
    const char* path = active_terminal();
    const int terminal = path == nullptr ? -ENOENT : sys::open(path, O_RDWR);
    if (terminal >= 0) {
        for (int fd = 0; fd <= 2; fd++) sys::dup2(terminal, fd);
        sys::close(terminal);
    }
    sys::ioctl(0, TIOCSCTTY, nullptr);
}

void open_standard_files() {
    // The kernel opens /dev/console as 0, 1 and 2, or nothing at all if it has no console.
    int fd = sys::call(SYS_fcntl, 2, F_GETFD) < 0 ? sys::open("/dev/null", O_RDWR) : -1;
    if (fd < 0) return;
    for (int target = 0; target <= 2; target++) {
        if (sys::call(SYS_fcntl, target, F_GETFD) < 0 || target == fd) sys::dup2(fd, target);
    }
    sys::call(SYS_fcntl, fd, F_SETFD, fd > 2 ? FD_CLOEXEC : 0);
}
