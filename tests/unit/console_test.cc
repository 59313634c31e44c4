// SPDX-License-Identifier: Apache-2.0
//
// The console and the log with sinks that are slow, full or gone: nothing waits for them, and what they do not take is
// counted.
#include "vmm/devices/console.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

#include "base/log.h"
#include "tests/support/vsock_guest.h"
#include "vmm/devices/guest_page.h"
#include "vmm/devices/i8042.h"

using namespace wisp;
using wisp::test::TempFolder;

namespace {

/// A FIFO, its console, and a UART that a guest writes to.
struct Rig {
    explicit Rig() {
        REQUIRE(mkfifo(path.c_str(), 0600) == 0);
        auto created = Console::create(*loop, path, [this] { ++interrupts; });
        REQUIRE(created);
        console = *std::move(created);
        REQUIRE(console->start());
    }

    void send(std::string_view text) {
        for (const char letter : text) {
            const std::byte byte{static_cast<unsigned char>(letter)};
            console->serial().handle_write(0, {&byte, 1});
        }
    }
    bool transmitter_ready() {
        std::byte status{};
        console->serial().handle_read(5, {&status, 1});
        return std::to_integer<unsigned>(status) & 0x20;
    }
    void turn() { REQUIRE(loop->turn(0).has_value()); }
    void turn_until(const std::function<bool()>& done) {
        const uint64_t give_up_ns = monotonic_ns() + 20'000'000'000;
        while (!done()) {
            REQUIRE(monotonic_ns() < give_up_ns);
            REQUIRE(loop->turn(10'000'000).has_value());
        }
    }
    /// Sends as a driver does, which waits for the transmitter.
    void send_waiting(size_t bytes) {
        for (size_t i = 0; i < bytes; ++i) {
            if (!transmitter_ready()) turn_until([this] { return transmitter_ready(); });
            send("x");
        }
    }
    uint64_t missed() { return console->serial().counters().missed_write_count; }

    TempFolder folder;
    const std::string path = folder / "fifo";
    std::unique_ptr<Loop> loop = *Loop::create();
    unsigned interrupts = 0;
    std::unique_ptr<Console> console;
};

OwnedFd reader_of(const std::string& path) {
    return OwnedFd(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
}

std::string read_all(int fd) {
    std::string text;
    char block[4096];
    for (ssize_t got; (got = read(fd, block, sizeof block)) > 0;) text.append(block, static_cast<size_t>(got));
    return text;
}

/// Sets the log's sink while it lives.
struct LogTo {
    explicit LogTo(int fd) : before(log::config()) {
        log::Config config = before;
        config.fd = fd;
        log::configure(config);
    }
    ~LogTo() { log::configure(before); }
    const log::Config before;
};

constexpr size_t kPipe = 64 << 10;

}  // namespace

TEST_CASE("console: output into a FIFO arrives") {
    Rig rig;
    const OwnedFd reader = reader_of(rig.path);
    rig.send("hello");
    rig.turn();
    CHECK(read_all(reader.get()) == "hello");
    CHECK(rig.missed() == 0);
}

TEST_CASE("console: a guest goes on although the sink is not read, and what is lost is counted") {
    Rig rig;
    const OwnedFd reader = reader_of(rig.path);
    const size_t all = kPipe + 5 * limits::kConsoleOutput;
    rig.send_waiting(all);
    rig.turn_until([&] { return rig.missed() >= all - kPipe - limits::kConsoleOutput; });
    const uint64_t missed = rig.missed();
    CHECK(missed > 0);
    // A reader that comes back gets what is sent then.
    std::string text = read_all(reader.get());
    rig.turn_until([&] { return text += read_all(reader.get()), text.size() + rig.missed() == all; });
    rig.send("here again");
    rig.turn_until([&] { return text += read_all(reader.get()), text.ends_with("here again"); });
}

TEST_CASE("console: a slow reader loses nothing") {
    Rig rig;
    const OwnedFd reader = reader_of(rig.path);
    const size_t all = kPipe + 3 * limits::kConsoleOutput;
    std::string text;
    for (size_t i = 0; i < all; ++i) {
        if (!rig.transmitter_ready())
            rig.turn_until([&] {
                char block[1000];
                const ssize_t got = read(reader.get(), block, sizeof block);
                if (got > 0) text.append(block, static_cast<size_t>(got));
                return rig.transmitter_ready();
            });
        rig.send("x");
    }
    rig.turn_until([&] { return text += read_all(reader.get()), text.size() == all; });
    CHECK(rig.missed() == 0);
}

TEST_CASE("console: a FIFO whose reader is missing, or dies, ends nothing") {
    Rig rig;
    rig.send("no reader yet, ");
    rig.turn();
    OwnedFd reader = reader_of(rig.path);
    CHECK(read_all(reader.get()) == "no reader yet, ");
    reader.reset();
    rig.send("none now");
    rig.turn();
    reader = reader_of(rig.path);
    CHECK(read_all(reader.get()) == "none now");
    CHECK(rig.missed() == 0);
}

TEST_CASE("console: while it is paused no input reaches the UART and no interrupt is raised") {
    const OwnedFd input_end(dup(STDIN_FILENO)), output_end(dup(STDOUT_FILENO));
    int in[2], out[2];
    REQUIRE((pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC | O_NONBLOCK) == 0));
    const OwnedFd in_read(in[0]), in_write(in[1]), out_read(out[0]), out_write(out[1]);
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    {
        unsigned interrupts = 0;
        auto loop = *Loop::create();
        auto console = *Console::create(*loop, std::nullopt, [&] { ++interrupts; });
        const std::byte received{1};
        console->serial().handle_write(1, {&received, 1});  // the interrupt for input
        REQUIRE(console->start());
        console->pause();
        interrupts = 0;
        REQUIRE(write(in[1], "typed", 5) == 5);
        for (int i = 0; i < 5; ++i) REQUIRE(loop->turn(1'000'000));
        CHECK(console->serial().input_room() == limits::kConsoleInput);
        CHECK(interrupts == 0);
        console->resume();
        CHECK(console->serial().input_room() == limits::kConsoleInput - 5);
        CHECK(interrupts == 1);
        REQUIRE(write(in[1], "more", 4) == 4);  // the watch is back too
        const uint64_t give_up_ns = monotonic_ns() + 20'000'000'000;
        while (console->serial().input_room() != limits::kConsoleInput - 9) {
            REQUIRE(monotonic_ns() < give_up_ns);
            REQUIRE(loop->turn(10'000'000));
        }
    }
    dup2(input_end.get(), STDIN_FILENO);
    dup2(output_end.get(), STDOUT_FILENO);
}

TEST_CASE("console: a flood of a port while the loop does not turn grows nothing") {
    Rig rig;
    Loop& loop = *rig.loop;
    StopSink stop(loop, [](Stop) {});
    Doorbell bell(loop, [] {});
    I8042 keyboard(stop, [&] { bell.ring(); });
    const std::byte enable{0xae}, byte{'x'}, loopback{0x1f}, received{1};
    rig.console->serial().handle_write(4, {&loopback, 1});
    rig.console->serial().handle_write(1, {&received, 1});
    REQUIRE(keyboard.send_ctrl_alt_del());
    const auto flood = [&](int count) {
        for (int i = 0; i < count; ++i) {
            std::byte value{};
            rig.console->serial().handle_write(0, {&byte, 1});
            rig.console->serial().handle_read(0, {&value, 1});
            keyboard.command_port().handle_write(0, {&enable, 1});
        }
    };
    const auto resident_kib = [] {
        FILE* file = fopen("/proc/self/statm", "r");
        REQUIRE(file);
        long total = 0, resident = 0;
        REQUIRE(fscanf(file, "%ld %ld", &total, &resident) == 2);
        fclose(file);
        return resident * 4;
    };
    flood(1000);
    const long before = resident_kib();
    flood(2'000'000);  // a closure for each would take 100 MiB
    CHECK(resident_kib() - before < 8 << 10);
    rig.turn();
}

TEST_CASE("log: a full pipe loses lines, and counts them, and the writer goes on") {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);  // blocking, as an inherited standard output is
    const OwnedFd read_end(ends[0]), write_end(ends[1]);
    for (const bool reopened : {false, true}) {
        const OwnedFd own = reopened ? reopen_nonblocking(ends[1]) : OwnedFd();
        if (reopened) {
            REQUIRE(own.valid());
            CHECK((fcntl(own.get(), F_GETFL) & O_NONBLOCK) != 0);
            CHECK((fcntl(ends[1], F_GETFL) & O_NONBLOCK) == 0);  // what others share is as it was
        }
        const LogTo sink(reopened ? own.get() : ends[1]);
        const uint64_t before = log::dropped();
        for (int i = 0; i < 2000; ++i) LOG_ERROR("line %d of a log that is not read", i);
        const uint64_t lost = log::dropped() - before;
        CHECK(lost > 1000);
        char block[4096];
        size_t lines = 0;
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
        for (ssize_t got; (got = read(ends[0], block, sizeof block)) > 0;)
            lines += static_cast<size_t>(std::count(block, block + got, '\n'));
        CHECK(lines + lost == 2000);
        LOG_ERROR("room again");
        CHECK(log::dropped() - before == lost);
        while (read(ends[0], block, sizeof block) > 0) {
        }
    }
}

TEST_CASE("log: only a pipe or a terminal is opened again") {
    const OwnedFd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    CHECK_FALSE(reopen_nonblocking(file.get()).valid());
    CHECK_FALSE(reopen_nonblocking(-1).valid());
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    CHECK_FALSE(reopen_nonblocking(pair[0]).valid());
    close(pair[0]);
    close(pair[1]);
}

TEST_CASE("guest page: a guest that marks its boot all the time is limited, and counted") {
    unsigned marked = 0;
    GuestStatus page([&] { ++marked; });
    const std::byte done{123};
    const uint64_t before = log::left_out();
    for (unsigned i = 0; i < 1000; ++i) page.handle_write(0, {&done, 1});
    CHECK(marked >= limits::kLogBurst);
    CHECK(marked <= 10 * limits::kLogBurst);  // some intervals may pass on a busy machine
    CHECK(marked + (log::left_out() - before) == 1000);
}
