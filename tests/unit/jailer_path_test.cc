// SPDX-License-Identifier: Apache-2.0
#include "jailer/path.h"

#include <fcntl.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include <cstdlib>

using namespace wisp;
using namespace wisp::jailer;

namespace {

struct Scratch {
    Scratch() : directory(*open_directory(mkdtemp(path))) {}
    ~Scratch() { CHECK(rmdir(path) == 0); }  // and so everything below has to be gone
    char path[32] = "/tmp/wisp-path-XXXXXX";
    Directory directory;
};

}  // namespace

TEST_CASE("jail paths: what was made is taken back, newest first") {
    Scratch scratch;
    Undo undo;
    auto outer = make_directory(scratch.directory, "outer", 0700, undo);
    REQUIRE(outer);
    auto inner = make_directory(*outer, "inner", 0700, undo);
    REQUIRE(inner);
    CHECK(inner->made);
    undo.roll_back();
    CHECK(faccessat(scratch.directory.fd.get(), "outer", F_OK, 0) != 0);
}

TEST_CASE("jail paths: what was there stays") {
    Scratch scratch;
    REQUIRE(mkdirat(scratch.directory.fd.get(), "old", 0750) == 0);
    Undo undo;
    auto old = make_directory(scratch.directory, "old", 0700, undo);
    REQUIRE(old);
    CHECK(!old->made);
    REQUIRE(hand_over(*old, {geteuid(), getegid(), 0711}, undo));
    undo.roll_back();
    CHECK((stat_of(old->fd.get(), "old")->st_mode & 07777) == 0750);
    CHECK(unlinkat(scratch.directory.fd.get(), "old", AT_REMOVEDIR) == 0);
}

TEST_CASE("jail paths: no link is followed, not even inside, and nothing above is reached") {
    Scratch scratch;
    const int fd = scratch.directory.fd.get();
    REQUIRE(mkdirat(fd, "real", 0700) == 0);
    REQUIRE(symlinkat("real", fd, "link") == 0);
    Undo undo;
    const auto made = make_directory(scratch.directory, "link", 0700, undo);
    REQUIRE(!made);
    CHECK(made.error().message.find("symbolic link") != std::string::npos);
    CHECK(!open_beneath(scratch.directory, "link/x", O_RDONLY));
    CHECK(!open_beneath(scratch.directory, "..", O_RDONLY));
    CHECK(!open_beneath(scratch.directory, "/etc", O_RDONLY));
    CHECK(unlinkat(fd, "link", 0) == 0);
    CHECK(unlinkat(fd, "real", AT_REMOVEDIR) == 0);
}
