// SPDX-License-Identifier: Apache-2.0
//
// api_client get SOCKET COUNT                   round trips of GET /, each with a connection of its own
// api_client echo SOCKET REQUEST ANSWER         serves a plain echo at SOCKET: takes REQUEST bytes, gives ANSWER bytes
// api_client floor SOCKET COUNT REQUEST ANSWER  round trips to that
// api_client first SOCKET COUNT -- COMMAND…     from spawn to the first answered GET /; then kills it
// api_client start SOCKET COUNT KERNEL -- COMMAND…  InstanceStart sent, to the guest's first write, which the command
// logs
//
// Nanoseconds, one number a line. SIZES: `api_client sizes SOCKET` prints the bytes of GET / and of its answer.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr int kLimit_ms = 60'000;
constexpr char kGet[] = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n";

long long now_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1'000'000'000ll + now.tv_nsec;
}

[[noreturn]] void give_up(const char* what) {
    fprintf(stderr, "api_client: %s: %s\n", what, strerror(errno));
    exit(2);
}

sockaddr_un address_of(const char* path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address.sun_path) give_up("the socket's path is too long");
    strcpy(address.sun_path, path);
    return address;
}

/// -1 if no process listens there.
int connect_to(const char* path) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_un address = address_of(path);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
    close(fd);
    return -1;
}

/// Bytes received.
size_t round_trip(int fd, const void* request, size_t size) {
    if (write(fd, request, size) != static_cast<ssize_t>(size)) give_up("cannot send");
    char answer[65536];
    const ssize_t got = read(fd, answer, sizeof answer);
    if (got <= 0) give_up("no answer");
    return static_cast<size_t>(got);
}

void round_trips(const char* path, int count, const void* request, size_t size) {
    for (int i = 0; i < count; ++i) {
        const long long start = now_ns();
        const int fd = connect_to(path);
        if (fd < 0) give_up("cannot connect");
        round_trip(fd, request, size);
        close(fd);
        printf("%lld\n", now_ns() - start);
    }
}

void serve_echo(const char* path, size_t request_size, size_t answer_size) {
    const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    const sockaddr_un address = address_of(path);
    if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 || listen(listener, 16) < 0)
        give_up("cannot listen");
    puts("ready");
    fflush(stdout);
    char bytes[65536] = {};
    for (;;) {
        const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        size_t got = 0;
        while (got < request_size) {
            const ssize_t size = read(fd, bytes, sizeof bytes);
            if (size <= 0) break;
            got += static_cast<size_t>(size);
        }
        if (write(fd, bytes, answer_size) < 0) give_up("cannot answer");
        while (read(fd, bytes, sizeof bytes) > 0) {
        }
        close(fd);
    }
}

struct Process {
    pid_t pid;
    int output;
};

Process spawn(char** command) {
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) give_up("cannot make a pipe");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], 1);
    Process child{-1, pipe_fds[0]};
    if (posix_spawn(&child.pid, command[0], &actions, nullptr, command, environ) != 0)
        give_up("cannot spawn the command");
    posix_spawn_file_actions_destroy(&actions);
    close(pipe_fds[1]);
    return child;
}

void end(const Process& process) {
    kill(process.pid, SIGKILL);
    waitpid(process.pid, nullptr, 0);
    close(process.output);
}

/// A watch on the socket's folder, so that to wait for it costs nothing.
int watch_for(const char* path) {
    unlink(path);
    const int watch = inotify_init1(IN_CLOEXEC);
    const std::string folder = std::string(path).substr(0, std::string(path).rfind('/'));
    if (inotify_add_watch(watch, folder.c_str(), IN_CREATE) < 0) give_up("cannot watch the socket's folder");
    return watch;
}

// The client has the lowest priority meanwhile: on a host with one CPU it would keep the monitor from getting there.
void stand_back() {
    const sched_param none{};
    if (sched_setscheduler(0, SCHED_IDLE, &none) < 0) give_up("SCHED_IDLE");
}
void step_forward() {
    const sched_param none{};
    if (sched_setscheduler(0, SCHED_OTHER, &none) < 0) give_up("SCHED_OTHER");
}

int connect_when_there(const char* path, int watch) {
    pollfd wait{watch, POLLIN, 0};
    if (poll(&wait, 1, kLimit_ms) != 1) give_up("the socket did not come");
    for (;;) {  // it is there a moment before it listens
        if (const int fd = connect_to(path); fd >= 0) return fd;
        sched_yield();
    }
}

void times_to_first_answer(const char* path, int count, char** command) {
    for (int i = 0; i < count; ++i) {
        const int watch = watch_for(path);
        const long long start = now_ns();
        const Process process = spawn(command);
        stand_back();
        const int fd = connect_when_there(path, watch);
        round_trip(fd, kGet, sizeof kGet - 1);
        printf("%lld\n", now_ns() - start);
        step_forward();
        close(fd);
        close(watch);  // not earlier: the kernel waits for a grace period here
        end(process);
    }
}

std::string put(const char* path, const std::string& body) {
    return std::string("PUT ") + path +
           " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " +
           std::to_string(body.size()) + "\r\n\r\n" + body;
}

void times_to_first_instruction(const char* path, int count, const char* kernel, char** command) {
    for (int i = 0; i < count; ++i) {
        const int watch = watch_for(path);
        const Process process = spawn(command);
        const int fd = connect_when_there(path, watch);
        for (const std::string& request :
             {put("/boot-source", std::string("{\"kernel_image_path\":\"") + kernel + "\"}"),
              put("/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":128}")})
            round_trip(fd, request.data(), request.size());
        const std::string request = put("/actions", "{\"action_type\":\"InstanceStart\"}");
        const long long start = now_ns();
        if (write(fd, request.data(), request.size()) < 0) give_up("cannot send InstanceStart");
        std::string seen;
        while (seen.find("Guest-boot-time") == std::string::npos) {
            pollfd wait{process.output, POLLIN, 0};
            if (poll(&wait, 1, kLimit_ms) != 1) give_up("the guest did not start");
            char block[4096];
            const ssize_t got = read(process.output, block, sizeof block);
            if (got <= 0) give_up("the monitor ended");
            seen.append(block, static_cast<size_t>(got));
        }
        printf("%lld\n", now_ns() - start);
        close(fd);
        close(watch);  // not earlier: the kernel waits for a grace period here
        end(process);
    }
}

}  // namespace

int main(int argc, char** argv) {
    errno = 0;
    if (argc < 3) give_up("see the head of its source");
    const std::string mode = argv[1];
    const char* const path = argv[2];
    const auto number = [&](int place) { return place < argc ? atoi(argv[place]) : 0; };
    if (mode == "get") {
        round_trips(path, number(3), kGet, sizeof kGet - 1);
    } else if (mode == "floor") {
        const std::string request(static_cast<size_t>(number(4)), 'x');
        round_trips(path, number(3), request.data(), request.size());
    } else if (mode == "echo") {
        serve_echo(path, static_cast<size_t>(number(3)), static_cast<size_t>(number(4)));
    } else if (mode == "sizes") {
        printf("%zu %zu\n", sizeof kGet - 1, round_trip(connect_to(path), kGet, sizeof kGet - 1));
    } else if (mode == "first" && argc > 5) {
        times_to_first_answer(path, number(3), argv + 5);
    } else if (mode == "start" && argc > 6) {
        times_to_first_instruction(path, number(3), argv[4], argv + 6);
    } else {
        give_up("see the head of its source");
    }
    return 0;
}
