// SPDX-License-Identifier: Apache-2.0
// measure [--until TEXT [--fifo PATH]] [--repeat N] -- COMMAND...: what a command costs, in L1's time, which with
// --icount is a number of instructions: those of the host kernel, the VMM and its guest added up.
//
// Prints a line "ns=… cpu_ns=… host_irqs=… exit=…" for each repetition: from just before the fork to the command's end,
// or to the moment TEXT is seen in its output (then the command is killed, and exit=-1); cpu_ns is what it was on a
// CPU, guest time included. host_irqs is how often the host answered L1 meanwhile: it must be 0, or L1 waited for
// something that is not an instruction (a file that is not staged, as a rule). With --fifo, TEXT is awaited in a FIFO
// made at PATH instead, which serves as the command's log file. The command's output is kept back until the measurement
// is over, for to pass it on takes the host's help; then it goes to standard error. Exit code: 0, or the command's own
// if that is not 0, or 125 if the command ended without TEXT.
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr int kExitLab = 125;
constexpr int64_t kNsPerS = 1'000'000'000;
constexpr int64_t kPhaseNs = 100'000'000;

struct Options {
    std::string until, fifo;
    long repeat = 1;
    char** command = nullptr;
};

struct Result {
    int64_t ns = 0, cpu_ns = 0;
    long host_irqs = 0;
    int exit_code = 0;
};

[[noreturn]] void die(const std::string& what) {
    fprintf(stderr, "measure: %s: %s\n", what.c_str(), strerror(errno));
    exit(kExitLab);
}

[[noreturn]] void usage() {
    fprintf(stderr, "usage: measure [--until TEXT [--fifo PATH]] [--repeat N] -- COMMAND...\n");
    exit(kExitLab);
}

Options parse(int argc, char** argv) {
    static const option kOptions[] = {{"until", required_argument, nullptr, 'u'},
                                      {"fifo", required_argument, nullptr, 'f'},
                                      {"repeat", required_argument, nullptr, 'r'},
                                      {}};
    Options options;
    for (int c; (c = getopt_long(argc, argv, "+", kOptions, nullptr)) != -1;) {
        switch (c) {
            case 'u':
                options.until = optarg;
                break;
            case 'f':
                options.fifo = optarg;
                break;
            case 'r':
                options.repeat = strtol(optarg, nullptr, 10);
                break;
            default:
                usage();
        }
    }
    options.command = argv + optind;
    if (!*options.command || options.repeat < 1 || (!options.fifo.empty() && options.until.empty())) usage();
    return options;
}

// Interrupts from L1's own virtio devices so far: host files and the lab's ports. -1 if that cannot be told.
long host_irqs() {
    FILE* file = fopen("/proc/interrupts", "re");
    if (!file) return -1;
    long sum = 0;
    char line[1024];
    while (fgets(line, sizeof line, file)) {
        if (!strstr(line, "virtio")) continue;
        char* at = strchr(line, ':');
        for (char* end = at; at; at = end) {
            const long n = strtol(at + 1, &end, 10);
            if (end == at + 1) break;
            sum += n;
        }
    }
    fclose(file);
    return sum;
}

int64_t now_ns() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * kNsPerS + t.tv_nsec;
}

// In an L1 that counts instructions, a spinner keeps the clock from jumping while L1 waits for the host (see agent.cc).
// What is measured must not wait for the host, and is better off without it.
class WithoutSpinner {
public:
    WithoutSpinner() {
        if (FILE* file = fopen("/run/lab/spinner", "re")) {
            if (fscanf(file, "%d", &pid_) == 1) kill(pid_, SIGSTOP);
            fclose(file);
        }
    }
    ~WithoutSpinner() {
        if (pid_ > 0) kill(pid_, SIGCONT);
    }
    WithoutSpinner(const WithoutSpinner&) = delete;
    WithoutSpinner& operator=(const WithoutSpinner&) = delete;

private:
    pid_t pid_ = -1;
};

// Ticks and other periodic work fall at the same places in each measurement if each begins at the same phase of the
// clock.
void wait_for_phase() {
    const int64_t at = (now_ns() / kPhaseNs + 2) * kPhaseNs;
    const timespec t{.tv_sec = at / kNsPerS, .tv_nsec = at % kNsPerS};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr) == EINTR) {
    }
}

// Reads until TEXT has gone by; false at the end of the input.
bool see(int fd, const std::string& text, std::string& all) {
    char buffer[4096];
    for (;;) {
        const ssize_t n = read(fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        const size_t from = all.size() > text.size() ? all.size() - text.size() : 0;
        all.append(buffer, static_cast<size_t>(n));
        if (all.find(text, from) != std::string::npos) return true;
    }
}

void pass_on(int fd, const std::string& seen) {
    if (write(2, seen.data(), seen.size()) < 0) die("cannot write the command's output");
    char buffer[4096];
    for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;) {
        if (write(2, buffer, static_cast<size_t>(n)) < 0) die("cannot write the command's output");
    }
}

Result measure(const Options& options) {
    // The output goes to a file in memory, or to a pipe if it is to be watched.
    int output[2] = {-1, -1};
    int log = -1;
    if (!options.fifo.empty()) {
        unlink(options.fifo.c_str());
        if (mkfifo(options.fifo.c_str(), 0600) < 0) die("cannot make " + options.fifo);
        log = open(options.fifo.c_str(), O_RDWR | O_CLOEXEC);  // read-write, so that it does not wait for the writer
        if (log < 0) die("cannot open " + options.fifo);
    }
    if (!options.until.empty() && log < 0) {
        if (pipe2(output, O_CLOEXEC) < 0) die("pipe");
    } else {
        output[0] = output[1] = memfd_create("output", MFD_CLOEXEC);
        if (output[0] < 0) die("memfd_create");
    }
    const WithoutSpinner quiet;
    wait_for_phase();
    Result result;
    result.host_irqs = -host_irqs();
    wait_for_phase();

    const int64_t start = now_ns();
    const pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid == 0) {
        dup2(output[1], 1);
        dup2(output[1], 2);
        execvp(*options.command, options.command);
        die(std::string("cannot run ") + *options.command);
    }
    if (output[1] != output[0]) close(output[1]);
    bool seen = true;
    std::string watched;
    if (!options.until.empty()) {
        seen = see(log >= 0 ? log : output[0], options.until, watched);
        result.ns = now_ns() - start;
        kill(pid, SIGKILL);
    }
    int status = 0;
    rusage usage{};
    while (wait4(pid, &status, 0, &usage) < 0 && errno == EINTR) {
    }
    if (options.until.empty()) result.ns = now_ns() - start;
    result.host_irqs += host_irqs();
    result.cpu_ns = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * kNsPerS +
                    (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (!options.until.empty()) result.exit_code = seen ? -1 : kExitLab;
    lseek(output[0], 0, SEEK_SET);          // of the file in memory; a pipe has nothing to rewind
    fcntl(output[0], F_SETFL, O_NONBLOCK);  // of the pipe, which a child of the command may still hold
    pass_on(output[0], watched);
    close(output[0]);
    if (log >= 0) close(log);
    return result;
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse(argc, argv);
    int worst = 0;
    for (long i = 0; i < options.repeat; i++) {
        const Result r = measure(options);
        printf("ns=%lld cpu_ns=%lld host_irqs=%ld exit=%d\n", static_cast<long long>(r.ns),
               static_cast<long long>(r.cpu_ns), r.host_irqs, r.exit_code);
        fflush(stdout);
        if (r.exit_code == kExitLab && !options.until.empty())
            fprintf(stderr, "measure: %s ended without \"%s\"\n", *options.command, options.until.c_str());
        if (r.exit_code > 0) worst = r.exit_code;
    }
    return worst;
}
