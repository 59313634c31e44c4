// SPDX-License-Identifier: Apache-2.0
//
// The host's side of the vsock benchmark.
//   vsock_peer guest UDS_PATH WORK SIZE MS      with the bench guest (bench/guest/vsock.c) behind a monitor's socket
//   vsock_peer pair FOLDER WORK SIZE MS         the floor: a process in the guest's place, over plain Unix sockets
// WORK: send (guest to host), receive (host to guest), echo (round trips of one byte), accept (connects). Prints
//   bytes=N us=N                                or, for echo and accept, count=N us=N
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr size_t kBlock = 65536;
constexpr int kLimit_s = 30;

long long now_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1'000'000'000ll + now.tv_nsec;
}

[[noreturn]] void give_up(const char* what) {
    fprintf(stderr, "vsock_peer: %s: %s\n", what, strerror(errno));
    exit(2);
}

sockaddr_un address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) give_up("the path is too long");
    strcpy(address.sun_path, path.c_str());
    return address;
}

int listen_on(const std::string& path) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_un address = address_of(path);
    unlink(path.c_str());
    if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 || listen(fd, 64) < 0)
        give_up(path.c_str());
    return fd;
}

int connect_to(const std::string& path) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_un address = address_of(path);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) give_up(path.c_str());
    return fd;
}

// Bytes until the end, or until one that is not 0.
long long read_all(int fd) {
    static char block[kBlock];
    long long bytes = 0;
    for (ssize_t got; (got = read(fd, block, sizeof block)) != 0;) {
        if (got < 0) give_up("read");
        bytes += got;
        if (block[got - 1]) break;
    }
    return bytes;
}

long long write_for(int fd, size_t size, long long ns) {
    const std::vector<char> block(size);
    long long bytes = 0;
    for (const long long end = now_ns() + ns; now_ns() < end;) {
        const ssize_t put = write(fd, block.data(), size);
        if (put < 0) give_up("write");
        bytes += put;
    }
    return bytes;
}

void one_connect(const std::string& path) {
    const int fd = connect_to(path);
    const char line[] = "CONNECT 52\n";
    char answer[32];
    if (write(fd, line, sizeof line - 1) != sizeof line - 1) give_up("CONNECT");
    const ssize_t got = read(fd, answer, sizeof answer);
    if (got < 4 || memcmp(answer, "OK ", 3) != 0) give_up("no OK");
    close(fd);
}

// What the host's program does. `control`: the guest's connection.
void measure(const std::string& work, int control, const std::string& path, size_t size, long long ns) {
    const long long start = now_ns();
    char byte = 0;
    if (work == "send") {
        const long long bytes = read_all(control);
        printf("bytes=%lld us=%lld\n", bytes, (now_ns() - start) / 1000);
    } else if (work == "receive") {
        const long long bytes = write_for(control, size, ns);
        byte = 1;
        if (write(control, &byte, 1) != 1) give_up("write");
        if (read(control, &byte, 1) != 1) give_up("no confirmation");
        printf("bytes=%lld us=%lld\n", bytes, (now_ns() - start) / 1000);
    } else {
        long long count = 0;
        for (; now_ns() < start + ns; ++count) {
            if (work == "accept")
                one_connect(path);
            else if (write(control, &byte, 1) != 1 || read(control, &byte, 1) != 1)
                give_up("echo");
        }
        printf("count=%lld us=%lld\n", count, (now_ns() - start) / 1000);
    }
    close(control);
}

// What the guest does, by a process.
void stand_in(const std::string& work, int control, int listener, size_t size, long long ns) {
    char bytes[64];
    if (work == "send") {
        write_for(control, size, ns);
    } else if (work == "receive") {
        read_all(control);
        if (write(control, bytes, 1) != 1) give_up("confirmation");
    } else if (work == "echo") {
        while (read(control, bytes, 1) == 1)
            if (write(control, bytes, 1) != 1) break;
    } else {
        for (int fd; (fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)) >= 0; close(fd)) {
            if (read(fd, bytes, sizeof bytes) <= 0 || write(fd, "OK 1073741824\n", 14) != 14) give_up("OK");
            while (read(fd, bytes, sizeof bytes) > 0) {
            }
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 6) {
        fprintf(stderr, "vsock_peer guest|pair PATH WORK SIZE MS\n");
        return 2;
    }
    const std::string path = argv[2], work = argv[3];
    const size_t size = strtoul(argv[4], nullptr, 10);
    const long long ns = strtoll(argv[5], nullptr, 10) * 1'000'000;
    signal(SIGPIPE, SIG_IGN);
    alarm(kLimit_s);
    const int control = listen_on(path + "_5000");
    if (strcmp(argv[1], "guest") == 0) {
        printf("listening\n");
        fflush(stdout);
        measure(work, accept4(control, nullptr, nullptr, SOCK_CLOEXEC), path, size, ns);
        return 0;
    }
    const int listener = listen_on(path);
    const pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        stand_in(work, connect_to(path + "_5000"), listener, size, ns);
        _exit(0);
    }
    measure(work, accept4(control, nullptr, nullptr, SOCK_CLOEXEC), path, size, ns);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    return 0;
}
