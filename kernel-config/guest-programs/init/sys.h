// SPDX-License-Identifier: Apache-2.0
// The system calls that init uses, typed, without a C library: a static glibc start-up would double the
// instructions between exec and the boot timer. Every call returns its value, or a negative errno.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace sys {

inline long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
    long result;
    register long r10 asm("r10") = d;
    register long r8 asm("r8") = e;
    register long r9 asm("r9") = f;
    asm volatile("syscall"
                 : "=a"(result)
                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return result;
}

inline long as_long(const void* pointer) {
    return reinterpret_cast<long>(pointer);
}

// -- files
inline int open(const char* path, int flags) {
    return static_cast<int>(call(SYS_open, as_long(path), flags | O_CLOEXEC));
}
inline int close(int fd) {
    return static_cast<int>(call(SYS_close, fd));
}
inline long read(int fd, void* buffer, size_t size) {
    return call(SYS_read, fd, as_long(buffer), static_cast<long>(size));
}
inline long write(int fd, const void* bytes, size_t size) {
    return call(SYS_write, fd, as_long(bytes), static_cast<long>(size));
}
inline int dup2(int from, int to) {
    return static_cast<int>(call(SYS_dup2, from, to));
}
// To descriptor `to`, which must differ, and which exec closes.
inline int dup3(int from, int to) {
    return static_cast<int>(call(SYS_dup3, from, to, O_CLOEXEC));
}
// Closes `first` and every descriptor above it.
inline void close_from(int first) {
    call(SYS_close_range, first, ~0U, 0);
}
inline int mkdir(const char* path, int mode) {
    return static_cast<int>(call(SYS_mkdir, as_long(path), mode));
}
inline int chdir(const char* path) {
    return static_cast<int>(call(SYS_chdir, as_long(path)));
}
inline int ioctl(int fd, unsigned long request, const void* argument) {
    return static_cast<int>(call(SYS_ioctl, fd, static_cast<long>(request), as_long(argument)));
}
inline int socket(int family, int type) {
    return static_cast<int>(call(SYS_socket, family, type, 0));
}
inline void sync() {
    call(SYS_sync);
}

inline int poll(struct pollfd* fds, unsigned count, int timeout_ms) {
    return static_cast<int>(call(SYS_poll, as_long(fds), count, timeout_ms));
}
inline int epoll_create() {
    return static_cast<int>(call(SYS_epoll_create1, EPOLL_CLOEXEC));
}
inline int epoll_change(int epoll, int operation, int fd, const epoll_event& event) {
    return static_cast<int>(call(SYS_epoll_ctl, epoll, operation, fd, as_long(&event)));
}
// Waits without a limit. The number of events, or -EINTR.
inline int epoll_wait(int epoll, epoll_event* events, int count) {
    return static_cast<int>(call(SYS_epoll_wait, epoll, as_long(events), count, -1));
}
inline int pipe(int* ends, int flags) {
    return static_cast<int>(call(SYS_pipe2, as_long(ends), flags | O_CLOEXEC));
}
inline int set_nonblocking(int fd) {
    return static_cast<int>(call(SYS_fcntl, fd, F_SETFL, O_NONBLOCK));
}

// -- sockets
template <class Address>
int bind(int fd, const Address& address) {
    return static_cast<int>(call(SYS_bind, fd, as_long(&address), sizeof address));
}
template <class Address>
int connect(int fd, const Address& address) {
    return static_cast<int>(call(SYS_connect, fd, as_long(&address), sizeof address));
}
inline int listen(int fd, int backlog) {
    return static_cast<int>(call(SYS_listen, fd, backlog));
}
inline int accept(int fd) {
    return static_cast<int>(call(SYS_accept4, fd, 0, 0, SOCK_CLOEXEC));
}
inline int shutdown(int fd, int how) {
    return static_cast<int>(call(SYS_shutdown, fd, how));
}
inline long send(int fd, const void* bytes, size_t size) {
    return call(SYS_sendto, fd, as_long(bytes), static_cast<long>(size), MSG_NOSIGNAL);
}
// What the next read would return, without waiting and without taking it: 0 at the stream's end.
inline long peek(int fd, void* buffer, size_t size) {
    return call(SYS_recvfrom, fd, as_long(buffer), static_cast<long>(size), MSG_PEEK | MSG_DONTWAIT);
}

// -- mounts and memory
inline int mount(const char* source, const char* target, const char* type, unsigned long flags, const char* options) {
    return static_cast<int>(
        call(SYS_mount, as_long(source), as_long(target), as_long(type), static_cast<long>(flags), as_long(options)));
}
inline int umount(const char* target, int flags) {
    return static_cast<int>(call(SYS_umount2, as_long(target), flags));
}
// The address, or a negative errno as any other call.
inline long mmap_shared(int fd, size_t size, int protection, uint64_t offset) {
    return call(SYS_mmap, 0, static_cast<long>(size), protection, MAP_SHARED, fd, static_cast<long>(offset));
}

// -- processes and signals. The kernel's signal set is one 64-bit word.
using SignalSet = uint64_t;
constexpr SignalSet signal_bit(int number) {
    return SignalSet{1} << (number - 1);
}
inline int getpid() {
    return static_cast<int>(call(SYS_getpid));
}
inline int fork() {
    return static_cast<int>(call(SYS_fork));
}
inline int setsid() {
    return static_cast<int>(call(SYS_setsid));
}
inline int kill(int pid, int number) {
    return static_cast<int>(call(SYS_kill, pid, number));
}
inline int execve(const char* path, const char* const* arguments, const char* const* environment) {
    return static_cast<int>(call(SYS_execve, as_long(path), as_long(arguments), as_long(environment)));
}
// Any child that has ended, without waiting: its pid, 0 if none has, -ECHILD if there are no children.
inline int wait_any_now(int* status) {
    return static_cast<int>(call(SYS_wait4, -1, as_long(status), WNOHANG, 0));
}
// A descriptor that polls as readable once the process has ended.
inline int pidfd_open(int pid) {
    return static_cast<int>(call(SYS_pidfd_open, pid, 0));
}
inline int wait(int pid, int* status) {
    return static_cast<int>(call(SYS_wait4, pid, as_long(status), 0, 0));
}
// How the kernel takes a signal's action. SIG_DFL and SIG_IGN need no restorer.
struct KernelSignalAction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)();
    SignalSet mask;
};
inline int set_signal_action(int number, void (*handler)(int)) {
    const KernelSignalAction action{.handler = handler, .flags = 0, .restorer = nullptr, .mask = 0};
    return static_cast<int>(call(SYS_rt_sigaction, number, as_long(&action), 0, sizeof action.mask));
}
inline void set_signal_ignored(int number) {
    set_signal_action(number, SIG_IGN);
}
inline void set_signal_default(int number) {
    set_signal_action(number, SIG_DFL);
}
inline int set_descriptor_limit(rlim_t soft, rlim_t hard) {
    const rlimit limit{.rlim_cur = soft, .rlim_max = hard};
    return static_cast<int>(call(SYS_prlimit64, 0, RLIMIT_NOFILE, as_long(&limit), 0));
}
inline int block_signals(SignalSet set) {
    return static_cast<int>(call(SYS_rt_sigprocmask, SIG_SETMASK, as_long(&set), 0, sizeof set));
}
// The number of a signal of the (blocked) set; waits for ever without a timeout, else -EAGAIN when it has passed.
inline int wait_signal(SignalSet set, const timespec* timeout) {
    return static_cast<int>(call(SYS_rt_sigtimedwait, as_long(&set), 0, as_long(timeout), sizeof set));
}
inline void sleep_ms(long ms) {
    const timespec duration{.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1'000'000};
    call(SYS_nanosleep, as_long(&duration), 0);
}
[[noreturn]] inline void exit(int code) {
    for (;;) call(SYS_exit_group, code);
}

// -- the machine
inline int sethostname(const char* name, size_t size) {
    return static_cast<int>(call(SYS_sethostname, as_long(name), static_cast<long>(size)));
}
inline int reboot(int command) {
    constexpr long kMagic1 = 0xfee1dead;
    constexpr long kMagic2 = 672274793;
    return static_cast<int>(call(SYS_reboot, kMagic1, kMagic2, command, 0));
}

}  // namespace sys
