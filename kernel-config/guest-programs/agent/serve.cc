// SPDX-License-Identifier: Apache-2.0
// One connection of the agent: a RUN frame starts a command, whose standard files become frames both ways; an EXIT
// frame tells its status. A host program that goes away takes the command with it.

#include <poll.h>

#include <new>

#include "agent.h"

namespace {

constexpr int kSignalBase = 128;
constexpr int kProbeMs = 1000;  // between looks whether a host program that sends nothing is still there
constexpr int kMaxArguments = 255;

struct Frame {
    FrameHeader header;
    char payload[kMaxPayload];
};

bool read_whole(int fd, void* to, size_t size) {
    char* at = static_cast<char*>(to);
    while (size > 0) {
        const long got = sys::read(fd, at, size);
        if (got == -EINTR) continue;
        if (got <= 0) return false;
        at += got;
        size -= static_cast<size_t>(got);
    }
    return true;
}

// False at the end, or at what is no frame.
bool read_frame(int fd, Frame& frame) {
    if (!read_whole(fd, &frame.header, sizeof frame.header)) return false;
    if (frame.header.length > kMaxPayload) return false;
    return read_whole(fd, frame.payload, frame.header.length);
}

bool send_frame(int fd, Frame& frame, FrameType type, size_t length) {
    frame.header = {type, {}, static_cast<uint32_t>(length)};
    const char* at = reinterpret_cast<const char*>(&frame);
    for (size_t left = sizeof frame.header + length; left > 0;) {
        const long put = sys::send(fd, at, left);
        if (put == -EINTR) continue;
        if (put <= 0) return false;
        at += put;
        left -= static_cast<size_t>(put);
    }
    return true;
}

// The words of a RUN frame, each ended by a zero byte.
bool split_words(Frame& frame, const char** words) {
    const size_t length = frame.header.length;
    if (length == 0 || frame.payload[length - 1] != 0) return false;
    int count = 0;
    for (size_t at = 0; at < length; at++) {
        if (count == kMaxArguments) return false;
        words[count++] = frame.payload + at;
        while (frame.payload[at] != 0) at++;
    }
    words[count] = nullptr;
    return true;
}

class Server {
public:
    explicit Server(int connection) : host_(connection) {}

    int run() {
        const char* words[kMaxArguments + 1];
        if (!read_frame(host_, in_) || in_.header.type != FrameType::kRun || !split_words(in_, words)) return 1;
        if (const int error = start(words); error < 0) return exit_with(kNotExecutable);
        while (!ended_) {
            if (!turn()) {
                signal_command(SIGKILL);
                return 1;
            }
        }
        drain(output_, FrameType::kOutput);
        drain(error_, FrameType::kError);
        int status = 0;
        sys::wait(pid_, &status);
        return exit_with(WIFSIGNALED(status) ? kSignalBase + WTERMSIG(status) : WEXITSTATUS(status));
    }

private:
    int start(const char* const* words) {
        int input[2], output[2], error[2];
        if (const int failed = sys::pipe(input, 0); failed < 0) return failed;
        if (const int failed = sys::pipe(output, 0); failed < 0) return failed;
        if (const int failed = sys::pipe(error, 0); failed < 0) return failed;
        pid_ = sys::fork();
        if (pid_ < 0) return pid_;
        if (pid_ == 0) {
            sys::setsid();
            sys::dup2(input[0], 0);
            sys::dup2(output[1], 1);
            sys::dup2(error[1], 2);
            become(words);
        }
        input_ = input[1];
        output_ = output[0];
        error_ = error[0];
        for (const int fd : {input[0], output[1], error[1]}) sys::close(fd);
        for (const int fd : {input_, output_, error_}) sys::set_nonblocking(fd);
        pidfd_ = sys::pidfd_open(pid_);
        return pidfd_;
    }

    // Waits for something, and does it. False when the host's program has gone.
    bool turn() {
        const bool input_waits = input_at_ < input_size_;
        pollfd fds[] = {
            {host_ended_ || input_waits ? -1 : host_, POLLIN, 0},
            {input_waits ? input_ : -1, POLLOUT, 0},
            {output_, POLLIN, 0},
            {error_, POLLIN, 0},
            {pidfd_, POLLIN, 0},
        };
        const int ready = sys::poll(fds, 5, host_ended_ ? kProbeMs : -1);
        if (ready < 0) return ready == -EINTR;
        if (ready == 0 && sys::send(host_, "", 0) < 0) return false;
        if (fds[0].revents != 0) take_frame();
        if (fds[1].revents != 0) feed();
        if (fds[2].revents != 0 && !forward(output_, FrameType::kOutput)) return false;
        if (fds[3].revents != 0 && !forward(error_, FrameType::kError)) return false;
        ended_ = fds[4].revents != 0;
        return true;
    }

    // The command and its children; itself only where it does not lead them yet.
    void signal_command(int number) {
        if (sys::kill(-pid_, number) == -ESRCH) sys::kill(pid_, number);
    }

    void take_frame() {
        if (!read_frame(host_, in_)) {
            host_ended_ = true;
            close_input();
        } else if (in_.header.type == FrameType::kInput) {
            input_at_ = 0;
            input_size_ = input_ >= 0 ? in_.header.length : 0;
            if (in_.header.length == 0) close_input();
        } else if (in_.header.type == FrameType::kSignal && in_.header.length == 1) {
            signal_command(in_.payload[0]);
        }
    }

    // The command takes its input when it likes; until then nothing more is read from the host.
    void feed() {
        const long put = sys::write(input_, in_.payload + input_at_, input_size_ - input_at_);
        if (put > 0)
            input_at_ += static_cast<size_t>(put);
        else if (put != -EAGAIN && put != -EINTR)
            close_input();
    }

    void close_input() {
        if (input_ >= 0) sys::close(input_);
        input_ = -1;
        input_at_ = input_size_ = 0;
    }

    bool forward(int& from, FrameType type) {
        const long got = sys::read(from, out_.payload, sizeof out_.payload);
        if (got > 0) return send_frame(host_, out_, type, static_cast<size_t>(got));
        if (got == -EAGAIN || got == -EINTR) return true;
        sys::close(from);
        from = -1;
        return true;
    }

    // What the command left in a pipe. What its own children still write is not waited for.
    void drain(int from, FrameType type) {
        long got = 0;
        while (from >= 0 && (got = sys::read(from, out_.payload, sizeof out_.payload)) > 0) {
            if (!send_frame(host_, out_, type, static_cast<size_t>(got))) return;
        }
    }

    int exit_with(int status) {
        const auto value = static_cast<uint32_t>(status);
        __builtin_memcpy(out_.payload, &value, sizeof value);
        send_frame(host_, out_, FrameType::kExit, sizeof value);
        return 0;
    }

    const int host_;
    int pid_ = -1, pidfd_ = -1;
    int input_ = -1, output_ = -1, error_ = -1;  // our ends of its pipes; -1: closed
    bool host_ended_ = false, ended_ = false;
    size_t input_at_ = 0, input_size_ = 0;  // of in_'s payload, what the command has not taken yet
    Frame in_, out_;
};

}  // namespace

void serve(int connection) {
    static Server* server;
    alignas(Server) static char memory[sizeof(Server)];
    server = new (memory) Server(connection);
    sys::exit(server->run());
}
