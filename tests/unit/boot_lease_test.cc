// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <ctime>

#include "base/limits.h"
#include "tests/support/guest.h"
#include "tests/support/kernel_image.h"
#include "tests/support/temp_file.h"
#include "vmm/boot/load/kernel.h"
#include "vmm/boot/load/kernel_lease.h"

using namespace wisp;
using namespace wisp::boot;
using namespace wisp::test;

namespace {

const int kSignal = SIGRTMIN + 3;

/// Blocks the lease's signal while it lives.
class BlockedSignal {
public:
    BlockedSignal() {
        sigemptyset(&set_);
        sigaddset(&set_, kSignal);
        sigprocmask(SIG_BLOCK, &set_, &before_);
    }
    ~BlockedSignal() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
    /// True if the signal comes within `timeout_ms`.
    bool wait(long timeout_ms) const {
        const timespec timeout{timeout_ms / 1000, timeout_ms % 1000 * 1000000};
        return sigtimedwait(&set_, nullptr, &timeout) == kSignal;
    }

private:
    sigset_t set_, before_;
};

/// A process that opens the file for writing, which truncates it, and then exits with 0.
pid_t start_writer(const std::string& path) {
    const pid_t child = fork();
    if (child == 0) _exit(open(path.c_str(), O_WRONLY | O_TRUNC) < 0);
    return child;
}

bool has_ended(pid_t child) {
    return waitpid(child, nullptr, WNOHANG) == child;
}

std::string kernel_bytes() {
    ElfImage image;
    image.load(0x1000, 0x200000, pattern(0x5123, 5), 0x1000);
    return image.bytes();
}

}  // namespace

TEST_CASE("boot: a writer waits until the mapped kernel is unshared and the lease released") {
    const BlockedSignal signal;
    const TempFile file(kernel_bytes());
    auto lease = KernelLease::take(file.fd(), kSignal, gettid(), file.path());
    if (!lease) {
        WARN("skipped: no leases here: " << lease.error().message);
        return;
    }
    const GuestMemory memory = machine_memory(8 * limits::kMiB);
    auto kernel = load_kernel(memory, file.fd(), file.path(), KernelMapping::kMap);
    REQUIRE(kernel);
    REQUIRE(kernel->mapped.size() == 1);
    REQUIRE(memory.store({0x201000}, uint32_t{0x600dcafe}));  // as a guest that has patched itself
    const std::string before = guest_bytes(memory, {0}, 8 * limits::kMiB);
    CHECK(lease->held());
    CHECK_FALSE(lease->is_breaking());

    const pid_t writer = start_writer(file.path());
    REQUIRE(signal.wait(10'000));
    CHECK(lease->is_breaking());
    CHECK_FALSE(has_ended(writer));
    CHECK(file.content().size() > 0x6000);

    REQUIRE(unshare_kernel(memory, *kernel));
    CHECK(kernel->mapped.empty());
    lease->release();
    CHECK_FALSE(lease->held());
    int status = -1;
    REQUIRE(waitpid(writer, &status, 0) == writer);
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(file.content().empty());
    // Reading a page that were still the file's would be a SIGBUS now.
    CHECK(guest_bytes(memory, {0}, 8 * limits::kMiB) == before);
    REQUIRE(memory.store({0x202000}, uint32_t{1}));
}

TEST_CASE("boot: readers and a replaced file do not break the lease") {
    const BlockedSignal signal;
    const TempFile file(kernel_bytes());
    auto lease = KernelLease::take(file.fd(), kSignal, gettid(), file.path());
    if (!lease) {
        WARN("skipped: no leases here: " << lease.error().message);
        return;
    }
    const GuestMemory memory = machine_memory(8 * limits::kMiB);
    REQUIRE(load_kernel(memory, file.fd(), file.path(), KernelMapping::kMap));
    CHECK(file.content().size() > 0x6000);
    const std::string before = guest_bytes(memory, {0}, 8 * limits::kMiB);
    {
        const TempFile other("another kernel");
        REQUIRE(rename(other.path().c_str(), file.path().c_str()) == 0);
    }
    CHECK_FALSE(lease->is_breaking());
    CHECK_FALSE(signal.wait(0));
    CHECK(guest_bytes(memory, {0}, 8 * limits::kMiB) == before);
}

TEST_CASE("boot: no lease on a file that is open for writing") {
    const TempFile file(kernel_bytes());
    const auto writer = open_file(file.path(), O_WRONLY);
    REQUIRE(writer);
    const auto lease = KernelLease::take(file.fd(), kSignal, gettid(), file.path());
    REQUIRE_FALSE(lease);
    CHECK(lease.error().errno_value == EAGAIN);
    CHECK_THAT(lease.error().message, Catch::Matchers::Contains(file.path()));
}

TEST_CASE("boot: a lease goes with its owner, and only once") {
    const TempFile file(kernel_bytes());
    auto lease = KernelLease::take(file.fd(), kSignal, gettid(), file.path());
    if (!lease) {
        WARN("skipped: no leases here: " << lease.error().message);
        return;
    }
    KernelLease moved = *std::move(lease);
    CHECK(moved.held());
    CHECK_FALSE(lease->held());
    moved = KernelLease();
    CHECK(fcntl(file.fd(), F_GETLEASE) == F_UNLCK);
}
