// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/console.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

namespace wisp {

namespace {

// A pipe that polls as writable takes PIPE_BUF (4096) bytes without waiting, a terminal at least this many. It matters
// only for a standard output that could not be reopened without blocking.
constexpr size_t kWriteChunk = 256;

bool ready(int fd, short events) {
    pollfd request{fd, events, 0};
    return poll(&request, 1, 0) == 1;
}

// A regular file or /dev/null is always ready: a watch on it would make the loop spin.
bool can_wait(int fd) {
    struct stat status{};
    return isatty(fd) || (fstat(fd, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode)));
}

// The kernel stops a background job that changes its terminal's settings.
bool is_foreground_terminal(int fd) {
    return isatty(fd) && tcgetpgrp(fd) == getpgrp();
}

}  // namespace

Console::Console(Loop& loop, std::function<void()> interrupt)
    : loop_(loop),
      serial_({.interrupt = std::move(interrupt),
               .output_ready = [this] { output_bell_.ring(); },
               .input_room = [this] { input_bell_.ring(); }}),
      patience_(loop,
                [this] {
                    stalled_ = true;
                    flush();
                }),
      output_bell_(loop, [this] { flush(); }),
      input_bell_(loop, [this] { read_input(); }) {}

Console::~Console() {
    restore_terminal();
}

Result<std::unique_ptr<Console>> Console::create(Loop& loop, const std::optional<std::string>& output_path,
                                                 std::function<void()> interrupt) {
    std::unique_ptr<Console> console(new Console(loop, std::move(interrupt)));
    if (output_path) {
        // Read-write: a FIFO then opens without a reader and stays open when its reader closes it.
        auto file = open_file(*output_path, O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY, 0644);
        console->file_ = TRY_CONTEXT("serial output", std::move(file));
        console->output_fd_ = console->file_.get();
    } else {
        console->file_ = reopen_nonblocking(STDOUT_FILENO);
        console->output_fd_ = console->file_.valid() ? console->file_.get() : STDOUT_FILENO;
        console->input_fd_ = STDIN_FILENO;
    }
    return console;
}

Result<void> Console::start() {
    if (input_fd_ < 0) return {};
    make_terminal_raw();
    watch_input();
    read_input();
    return {};
}

void Console::pause() {
    flush();
    paused_ = true;
    patience_.cancel();
    input_watch_.reset();
}

void Console::resume() {
    if (!paused_) return;
    paused_ = false;
    watch_input();
    flush();
    read_input();
}

void Console::on_output(uint32_t) {
    stalled_ = false;
    flush();
}
void Console::on_input(uint32_t) {
    read_input();
}

// At most one UART buffer in a turn: a guest that sends all the time must not keep the loop here.
void Console::flush() {
    for (size_t taken = 0; taken < limits::kConsoleOutput;) {
        if (pending_start_ == pending_end_) {
            if (paused_) return;  // taking output could raise the transmitter's interrupt
            pending_start_ = 0;
            pending_end_ = serial_.take_output(pending_);
            if (pending_end_ == 0) return;
            taken += pending_end_;
            drop_excess();
        } else if (!write_pending()) {
            if (!stalled_) return wait_for_sink();
            lose_pending();
        }
    }
    output_bell_.ring();
}

// False: the sink takes nothing now.
bool Console::write_pending() {
    if (!ready(output_fd_, POLLOUT)) return false;
    const size_t size = std::min(pending_end_ - pending_start_, kWriteChunk);
    const ssize_t written = write(output_fd_, pending_.data() + pending_start_, size);
    if (written < 0 && errno == EAGAIN) return false;
    if (written < 0 && errno == EINTR) return true;
    if (written < 0) {
        // The sink is gone for good. The guest goes on without it.
        LOG_LIMITED("console output is lost: %s", errno_text(errno).c_str());
        lose_pending();
        return true;
    }
    pending_start_ += static_cast<size_t>(written);
    patience_.cancel();
    stalled_ = false;
    return true;
}

void Console::lose_pending() {
    serial_.count_lost_output(pending_end_ - pending_start_);
    pending_start_ = pending_end_;
}

/// Applies the rate limit to the bytes that were just taken from the UART.
void Console::drop_excess() {
    if (!rate_) return;
    const uint64_t now_ns = monotonic_ns();
    size_t within = 0;
    while (within < pending_end_ && rate_->take(1, now_ns) == 0) ++within;
    rate_limited_.store(rate_limited() + pending_end_ - within, std::memory_order_relaxed);
    pending_end_ = within;
}

void Console::wait_for_sink() {
    if (!patience_.armed() && !paused_) patience_.arm(limits::kConsolePatience_ms * 1'000'000);
    if (output_watch_.active()) return;
    if (auto watch = loop_.watch(output_fd_, EPOLLOUT, on_output_)) output_watch_ = *std::move(watch);
}

void Console::watch_input() {
    if (input_fd_ < 0 || !can_wait(input_fd_)) return;
    if (auto watch = loop_.watch(input_fd_, EPOLLIN, on_input_)) input_watch_ = *std::move(watch);
}

void Console::read_input() {
    while (input_fd_ >= 0 && !paused_) {
        std::array<char, limits::kConsoleInput> bytes;
        const size_t room = serial_.input_room();
        if (room == 0 || !ready(input_fd_, POLLIN)) return;
        const ssize_t got = read(input_fd_, bytes.data(), std::min(room, bytes.size()));
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
            if (errno == EAGAIN) return;
            continue;
        }
        if (got <= 0) {
            input_watch_.reset();
            input_fd_ = -1;
            return;
        }
        serial_.put_input({bytes.data(), static_cast<size_t>(got)});
    }
}

void Console::finish() {
    paused_ = false;
    flush();
    restore_terminal();
}

void Console::make_terminal_raw() {
    termios settings;
    if (!is_foreground_terminal(input_fd_) || tcgetattr(input_fd_, &settings) < 0) return;
    saved_terminal_ = settings;
    cfmakeraw(&settings);
    settings.c_oflag |= OPOST;  // our own log lines share the screen
    tcsetattr(input_fd_, TCSANOW, &settings);
}

void Console::restore_terminal() {
    if (!saved_terminal_) return;
    tcsetattr(STDIN_FILENO, TCSANOW, &*saved_terminal_);
    saved_terminal_.reset();
}

}  // namespace wisp
