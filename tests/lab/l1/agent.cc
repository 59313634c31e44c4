// SPDX-License-Identifier: Apache-2.0
// agent DEVICE...: process 1 of the lab's Linux (L1). It serves each virtio-serial port with a worker of its own; a
// worker runs one command at a time for the client at the other end of its port, which is
// tests/lab/host/client.py.
//
// The wire: frames of a type byte, a little-endian 32-bit length and that many bytes. A zero byte where a type is
// expected is skipped, and no frame is longer than kMaxPayload. So a new client first sends that many zeroes: they
// complete a frame that the client before it left unfinished, and the two never mix.
//   to L1:   T token (new client), C working directory, V NAME=value, A argument, S file to stage, G go,
//            I standard input (empty: its end), K signal number (one byte)
//   from L1: T token, O standard output, E standard error, R how much input was taken (4 bytes), X exit code (one byte)
// The client holds back input that would make more than kInputWindow bytes not yet taken: so the agent never has to
// stop reading its port, and sees a new client's token even while a command ignores its input. A client that goes away,
// or a second token, ends the command and everything it started.
#include <fcntl.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr size_t kHeader = 5;
constexpr size_t kMaxPayload = 64 * 1024;
constexpr size_t kInputWindow = 256 * 1024;
constexpr size_t kMaxBuffered = 256 * 1024;
constexpr const char* kSpinnerFile = "/run/lab/spinner";
constexpr int kExitLab = 125;  // something of the lab failed, not the command

[[noreturn]] void die(const std::string& what) {
    fprintf(stderr, "lab: %s: %s\n", what.c_str(), strerror(errno));
    _exit(kExitLab);
}

void close_fd(int& fd) {
    if (fd >= 0) close(fd);
    fd = -1;
}

struct Request {
    std::string cwd;
    std::vector<std::string> env, argv, stage;
};

void stage_file(const std::string& from) {
    const std::string to = "/stage/" + from.substr(from.rfind('/') + 1);
    const int in = open(from.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat st{};
    if (in < 0 || fstat(in, &st) < 0) die("cannot stage " + from);
    const int out = open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, st.st_mode & 0777);
    if (out < 0) die("cannot stage to " + to);
    for (;;) {
        const ssize_t n = sendfile(out, in, nullptr, 1 << 20);
        if (n < 0) die("cannot stage " + from);
        if (n == 0) break;
    }
    close(in);
    close(out);
}

// Runs in the child. A mount namespace of its own gives each command an empty /stage, and its mounts end with it.
[[noreturn]] void become(const Request& request) {
    setsid();
    if (unshare(CLONE_NEWNS) < 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0)
        die("mount namespace");
    if (mount("stage", "/stage", "tmpfs", 0, "mode=0755") < 0) die("cannot mount /stage");
    for (const auto& file : request.stage) stage_file(file);
    const rlimit files{.rlim_cur = 1024, .rlim_max = 524288};  // as under systemd; the kernel's own 4,096 is few
    if (setrlimit(RLIMIT_NOFILE, &files) < 0) die("setrlimit");
    if (chdir(request.cwd.c_str()) < 0)
        die("cannot enter " + request.cwd + " in L1 (only the project and the root file system are there)");

    std::vector<char*> argv, env;
    for (const auto& s : request.argv) argv.push_back(const_cast<char*>(s.c_str()));
    for (const auto& s : request.env) {
        env.push_back(const_cast<char*>(s.c_str()));
        if (s.starts_with("PATH=")) putenv(env.back());  // execvpe() searches the caller's PATH
    }
    argv.push_back(nullptr);
    env.push_back(nullptr);

    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    signal(SIGPIPE, SIG_DFL);
    execvpe(argv[0], argv.data(), env.data());
    const int code = errno == ENOENT ? 127 : 126;
    fprintf(stderr, "lab: cannot run %s in L1: %s\n", argv[0], strerror(errno));
    _exit(code);
}

class Worker {
public:
    explicit Worker(const char* device) : device_(device) {}

    [[noreturn]] void run() {
        // A process that a command leaves behind becomes this process's child, so that end_command() finds it.
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        signal(SIGPIPE, SIG_IGN);
        port_ = open(device_, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        epoll_ = epoll_create1(EPOLL_CLOEXEC);
        sigset_t child;
        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        sigprocmask(SIG_BLOCK, &child, nullptr);
        signals_ = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
        if (port_ < 0 || epoll_ < 0 || signals_ < 0) die(std::string("cannot serve ") + device_);
        // Edge-triggered: a port without a client reports a hang-up until one connects, and must not spin.
        watch(port_, EPOLLIN | EPOLLOUT | EPOLLET);
        watch(signals_, EPOLLIN);
        for (;;) {
            while (step()) {
            }
            epoll_event events[8];
            const int n = epoll_wait(epoll_, events, 8, -1);
            for (int i = 0; i < n; i++) {
                if (events[i].data.fd == port_ && (events[i].events & EPOLLHUP)) hung_up_ = true;
            }
        }
    }

private:
    void watch(int fd, uint32_t events) {
        epoll_event event{.events = events, .data = {.fd = fd}};
        if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
    }

    // Moves what can be moved without waiting; true if anything did.
    bool step() {
        bool moved = read_port();
        moved |= take_frames();
        moved |= feed_stdin();
        moved |= reap();
        moved |= forward(stdout_, 'O');
        moved |= forward(stderr_, 'E');
        moved |= finish();
        moved |= write_port();
        if (hung_up_ && !moved) {
            hung_up_ = false;
            // Without a command there is nothing to end, and perhaps an answer to keep: what a new client writes can be
            // here before the news that it came, and until then the port reports the hang-up of the client before.
            if (started_) end_session();
        }
        return moved;
    }

    bool read_port() {
        char buffer[32 * 1024];
        const ssize_t n = read(port_, buffer, sizeof buffer);
        if (n <= 0) return false;
        in_.append(buffer, static_cast<size_t>(n));
        return true;
    }

    bool take_frames() {
        size_t at = 0;
        for (;;) {
            if (at < in_.size() && in_[at] == 0) {
                at++;
                continue;
            }
            if (in_.size() - at < kHeader) break;
            uint32_t length;
            memcpy(&length, &in_[at + 1], sizeof length);
            if (length > kMaxPayload) {  // not our client: forget everything until the next token
                in_.clear();
                end_session();
                return true;
            }
            if (in_.size() - at < kHeader + length) break;
            const char type = in_[at];
            const std::string payload = in_.substr(at + kHeader, length);
            at += kHeader + length;
            take(type, payload);
        }
        in_.erase(0, at);
        return at > 0;
    }

    void take(char type, const std::string& payload) {
        switch (type) {
            case 'T':
                hung_up_ = false;  // that was the client before
                end_session();
                send('T', payload.data(), payload.size());
                break;
            case 'C':
                request_.cwd = payload;
                break;
            case 'V':
                request_.env.push_back(payload);
                break;
            case 'A':
                request_.argv.push_back(payload);
                break;
            case 'S':
                request_.stage.push_back(payload);
                break;
            case 'G':
                start();
                break;
            case 'I':
                if (payload.empty()) stdin_ended_ = true;
                if (stdin_ < 0)
                    took_input(payload.size());  // the command does not read: dropped, as a pipe's writer would be told
                else if (stdin_buffer_.size() + payload.size() <= kInputWindow)
                    stdin_buffer_ += payload;
                break;
            case 'K':
                if (pid_ > 0 && payload.size() == 1 && kill(-pid_, payload[0]) < 0)
                    kill(pid_, payload[0]);  // before its setsid()
                break;
            default:
                break;
        }
    }

    void start() {
        started_ = true;
        int in[2], out[2], err[2];
        if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0) die("pipe");
        pid_ = fork();
        if (pid_ < 0) die("fork");
        if (pid_ == 0) {
            dup2(in[0], 0);
            dup2(out[1], 1);
            dup2(err[1], 2);
            become(request_);
        }
        close(in[0]);
        close(out[1]);
        close(err[1]);
        stdin_ = in[1];
        stdout_ = out[0];
        stderr_ = err[0];
        for (const int fd : {stdin_, stdout_, stderr_}) fcntl(fd, F_SETFL, O_NONBLOCK);
        watch(stdin_, EPOLLOUT | EPOLLET);
        watch(stdout_, EPOLLIN | EPOLLET);
        watch(stderr_, EPOLLIN | EPOLLET);
    }

    bool feed_stdin() {
        if (stdin_ < 0) return false;
        if (stdin_buffer_.empty()) {
            if (!stdin_ended_) return false;
            close_fd(stdin_);
            return true;
        }
        const ssize_t n = write(stdin_, stdin_buffer_.data(), stdin_buffer_.size());
        if (n > 0) {
            stdin_buffer_.erase(0, static_cast<size_t>(n));
            took_input(static_cast<size_t>(n));
            return true;
        }
        if (errno == EAGAIN) return false;
        close_fd(stdin_);
        took_input(stdin_buffer_.size());
        stdin_buffer_.clear();
        return true;
    }

    void took_input(size_t size) {
        const auto taken = static_cast<uint32_t>(size);
        if (taken) send('R', reinterpret_cast<const char*>(&taken), sizeof taken);
    }

    bool reap() {
        signalfd_siginfo info;
        if (read(signals_, &info, sizeof info) < 0) return false;
        int status = 0;
        // Orphans are collected as they end, so that a test that waits for a daemon's end sees it.
        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
            if (pid != pid_) continue;
            exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            pid_ = -1;
        }
        if (exit_code_ >= 0) kill_descendants();
        return true;
    }

    bool forward(int& fd, char type) {
        if (fd < 0 || out_.size() >= kMaxBuffered) return false;
        char buffer[32 * 1024];
        const ssize_t n = read(fd, buffer, sizeof buffer);
        if (n > 0) {
            send(type, buffer, static_cast<size_t>(n));
            return true;
        }
        if (n < 0 && errno == EAGAIN && pid_ > 0) return false;
        close_fd(fd);  // its end; or the command is gone with all its children, and the pipe is empty
        return true;
    }

    bool finish() {
        if (exit_code_ < 0 || stdout_ >= 0 || stderr_ >= 0) return false;
        const char code = static_cast<char>(exit_code_);
        exit_code_ = -1;
        close_fd(stdin_);
        send('X', &code, 1);
        return true;
    }

    void send(char type, const char* data, size_t size) {
        const auto length = static_cast<uint32_t>(size);
        out_.push_back(type);
        out_.append(reinterpret_cast<const char*>(&length), sizeof length);
        out_.append(data, size);
    }

    bool write_port() {
        if (out_.empty()) return false;
        const ssize_t n = write(port_, out_.data(), out_.size());
        if (n <= 0) return false;
        out_.erase(0, static_cast<size_t>(n));
        return true;
    }

    void end_session() {
        if (pid_ > 0) kill(pid_, SIGKILL);
        kill_descendants();
        pid_ = -1;
        for (int* fd : {&stdin_, &stdout_, &stderr_}) close_fd(*fd);
        request_ = {};
        stdin_buffer_.clear();
        out_.clear();
        started_ = stdin_ended_ = false;
        exit_code_ = -1;
    }

    // The children of a process that dies become ours, so killing our children until there are none reaches them all.
    void kill_descendants() {
        const std::string list = "/proc/self/task/" + std::to_string(gettid()) + "/children";
        for (;;) {
            FILE* children = fopen(list.c_str(), "re");
            if (!children) die("cannot read " + list);
            int pid = 0;
            while (fscanf(children, "%d", &pid) == 1) kill(pid, SIGKILL);
            fclose(children);
            if (waitpid(-1, nullptr, 0) < 0 && errno == ECHILD) return;
        }
    }

    const char* device_;
    int port_ = -1, epoll_ = -1, signals_ = -1;
    int stdin_ = -1, stdout_ = -1, stderr_ = -1;
    pid_t pid_ = -1;
    int exit_code_ = -1;
    bool started_ = false, stdin_ended_ = false, hung_up_ = false;
    Request request_;
    std::string in_, out_, stdin_buffer_;
};

// With -icount, L1's clock jumps whenever L1 has nothing to run, and while L1 waits for a file of the host that can be
// minutes: every time-out in L1 would strike at random. So something of the lowest priority always runs. measure stops
// it while it measures.
[[noreturn]] void spin() {
    const sched_param none{};
    sched_setscheduler(0, SCHED_IDLE, &none);
    for (;;) asm volatile("");
}

}  // namespace

int main(int argc, char** argv) {
    if (getenv("LAB_ICOUNT")) {
        const pid_t spinner = fork();
        if (spinner == 0) spin();
        FILE* file = fopen(kSpinnerFile, "we");
        if (!file || fprintf(file, "%d\n", spinner) < 0 || fclose(file) != 0)
            die(std::string("cannot write ") + kSpinnerFile);
    }
    for (int i = 1; i < argc; i++) {
        if (fork() == 0) Worker(argv[i]).run();
    }
    // Process 1 must not end, and the orphans of the boot scripts are its to collect.
    for (;;) {
        if (wait(nullptr) < 0) pause();
    }
}
