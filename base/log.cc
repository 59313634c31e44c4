// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "base/limits.h"

namespace wisp::log {

namespace {

constexpr size_t kMaxLine = 1024;

Config g_config;
bool g_may_block = true;  // a write to g_config.fd
std::atomic<uint64_t> g_dropped = 0;
std::atomic<uint64_t> g_left_out = 0;
thread_local const char* t_thread_name = "main";

const char* level_name(Level level) {
    static constexpr const char* kNames[] = {"OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"};
    return kNames[static_cast<size_t>(level)];
}

// A guest's or client's bytes in a line must not forge another line or control a terminal.
void make_printable(char* text, size_t size) {
    for (size_t i = 0; i < size; ++i)
        if (static_cast<unsigned char>(text[i]) < 0x20 || text[i] == 0x7f) text[i] = '?';
}

bool may_block(int fd) {
    struct stat status{};
    return !(fcntl(fd, F_GETFL) & O_NONBLOCK) && !(fstat(fd, &status) == 0 && S_ISREG(status.st_mode));
}

// A pipe that polls as writable takes PIPE_BUF (4096) bytes at once; a line is shorter. Only a process that shares the
// pipe can fill it in between: against that the sink is reopened without blocking where the host allows it (base/fd.h).
bool takes_line(int fd) {
    pollfd request{fd, POLLOUT, 0};
    return !g_may_block || poll(&request, 1, 0) == 1;
}

size_t write_prefix(char* out, size_t size, Level level, const char* file, int line) {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    tm local{};
    localtime_r(&now.tv_sec, &local);
    const int length = snprintf(out, size, "%04d-%02d-%02dT%02d:%02d:%02d.%09ld [%s:%s", local.tm_year + 1900,
                                local.tm_mon + 1, local.tm_mday, local.tm_hour, local.tm_min, local.tm_sec, now.tv_nsec,
                                g_config.instance_id.c_str(), t_thread_name);
    auto used = static_cast<size_t>(length);
    if (g_config.show_level) used += static_cast<size_t>(snprintf(out + used, size - used, ":%s", level_name(level)));
    if (g_config.show_origin) used += static_cast<size_t>(snprintf(out + used, size - used, ":%s:%d", file, line));
    return used + static_cast<size_t>(snprintf(out + used, size - used, "] "));
}

}  // namespace

void configure(Config config) {
    tzset();  // reads the time zone's file now: a filter may forbid that when the first line is written
    g_may_block = may_block(config.fd);
    g_config = std::move(config);
}
const Config& config() {
    return g_config;
}
void set_thread_name(const char* name) {
    t_thread_name = name;
}
uint64_t dropped() {
    return g_dropped.load(std::memory_order_relaxed);
}
uint64_t left_out() {
    return g_left_out.load(std::memory_order_relaxed);
}

bool enabled(Level level, const char* file) {
    return level <= g_config.level && level != Level::kOff &&
           (g_config.module.empty() || strncmp(file, g_config.module.c_str(), g_config.module.size()) == 0);
}

void write(Level level, const char* file, int line, const char* pattern, ...) {
    const int saved_errno = errno;
    char text[kMaxLine];
    const size_t prefix = write_prefix(text, kMaxLine / 2, level, file, line);
    va_list args;
    va_start(args, pattern);
    const int length = vsnprintf(text + prefix, kMaxLine - prefix - 1, pattern, args);
    va_end(args);

    size_t size = prefix + (length < 0 ? 0 : static_cast<size_t>(length));
    if (size > kMaxLine - 2) size = kMaxLine - 2;
    make_printable(text + prefix, size - prefix);
    text[size++] = '\n';
    // One write for a line, so that lines of several threads and processes do not mix.
    ssize_t written = -1;
    if (takes_line(g_config.fd)) {
        do {
            written = ::write(g_config.fd, text, size);
        } while (written < 0 && errno == EINTR);
    }
    if (written < static_cast<ssize_t>(size)) g_dropped.fetch_add(1, std::memory_order_relaxed);
    errno = saved_errno;
}

bool Limiter::allow(uint64_t& suppressed) {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    const uint64_t now_ns = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
    uint64_t start = window_start_ns_.load(std::memory_order_relaxed);
    if (start == 0 || now_ns - start >= limits::kLogInterval_s * 1'000'000'000) {
        if (window_start_ns_.compare_exchange_strong(start, now_ns, std::memory_order_relaxed))
            in_window_.store(0, std::memory_order_relaxed);
    }
    if (in_window_.fetch_add(1, std::memory_order_relaxed) >= limits::kLogBurst) {
        suppressed_.fetch_add(1, std::memory_order_relaxed);
        g_left_out.fetch_add(1, std::memory_order_relaxed);
        return false;
    }
    suppressed = suppressed_.exchange(0, std::memory_order_relaxed);
    return true;
}

}  // namespace wisp::log
