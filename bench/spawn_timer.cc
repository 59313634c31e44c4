// SPDX-License-Identifier: Apache-2.0
//
// spawn_timer COUNT exit -- COMMAND…            nanoseconds from spawn to reaped exit
// spawn_timer COUNT line PATTERN -- COMMAND…    nanoseconds from spawn to PATTERN on its standard output; then kills it
//
// One number a line, COUNT of them, one run at a time. A shell or Python would cost more than what is measured.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr int kLimit_s = 60;

long long now_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1'000'000'000ll + now.tv_nsec;
}

[[noreturn]] void give_up(const char* what) {
    fprintf(stderr, "spawn_timer: %s\n", what);
    exit(2);
}

pid_t spawn(char** command, int output) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (output >= 0)
        posix_spawn_file_actions_adddup2(&actions, output, 1);
    else
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    pid_t child = -1;
    if (posix_spawn(&child, command[0], &actions, nullptr, command, environ) != 0) give_up("cannot spawn the command");
    posix_spawn_file_actions_destroy(&actions);
    return child;
}

long long time_to_exit(char** command) {
    const long long start = now_ns();
    const pid_t child = spawn(command, -1);
    int status = 0;
    waitpid(child, &status, 0);
    const long long end = now_ns();
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) give_up("the command did not end with code 0");
    return end - start;
}

long long time_to_line(char** command, const char* pattern) {
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) give_up("cannot make a pipe");
    const long long start = now_ns();
    const pid_t child = spawn(command, pipe_fds[1]);
    close(pipe_fds[1]);
    std::string seen;
    long long end = 0;
    while (end == 0) {
        pollfd wait{pipe_fds[0], POLLIN, 0};
        if (poll(&wait, 1, kLimit_s * 1000) != 1) give_up("the pattern did not come in time");
        char block[4096];
        const ssize_t got = read(pipe_fds[0], block, sizeof block);
        if (got <= 0) give_up("the command ended without the pattern");
        seen.append(block, static_cast<size_t>(got));
        if (seen.find(pattern) != std::string::npos) end = now_ns();
    }
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    close(pipe_fds[0]);
    return end - start;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 5) give_up("COUNT exit|line [PATTERN] -- COMMAND");
    const int count = atoi(argv[1]);
    const bool line = strcmp(argv[2], "line") == 0;
    char** command = argv + (line ? 5 : 4);
    if (command >= argv + argc || strcmp(command[-1], "--") != 0) give_up("COUNT exit|line [PATTERN] -- COMMAND");
    for (int i = 0; i < count; ++i) printf("%lld\n", line ? time_to_line(command, argv[3]) : time_to_exit(command));
    return 0;
}
