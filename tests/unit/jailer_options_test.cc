// SPDX-License-Identifier: Apache-2.0
#include "jailer/options.h"

#include <catch2/catch.hpp>

using namespace wisp::jailer;

namespace {

wisp::Result<Options> parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "wisp-jailer");
    return parse_options(static_cast<int>(arguments.size()), arguments.data());
}

std::vector<const char*> with(std::vector<const char*> more) {
    std::vector<const char*> all = {"--id", "a-1", "--exec-file", "/bin/x", "--uid", "7", "--gid=8"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
}

}  // namespace

TEST_CASE("jailer options: defaults are Firecracker's") {
    const auto options = parse(with({}));
    REQUIRE(options.has_value());
    CHECK(options->id == "a-1");
    CHECK(options->uid == 7);
    CHECK(options->gid == 8);
    CHECK(options->chroot_base_dir == "/srv/jailer");
    CHECK(options->cgroup_version == 1);
    CHECK(options->limits.open_files == 2048);
    CHECK(!options->limits.file_size_bytes);
    CHECK(!options->parent_cgroup);
    CHECK(!options->daemonize);
    CHECK(!options->new_pid_ns);
}

TEST_CASE("jailer options: everything after the separator belongs to the program") {
    const auto options = parse(with({"--daemonize", "--", "--id", "--", "--help"}));
    REQUIRE(options.has_value());
    CHECK(options->daemonize);
    CHECK(options->program_arguments == std::vector<std::string>{"--id", "--", "--help"});
}

TEST_CASE("jailer options: a cgroup setting names its controller") {
    const auto options = parse(with({"--cgroup", "cpuset.cpus=0-3,5", "--cgroup=memory.limit_in_bytes=1G"}));
    REQUIRE(options.has_value());
    REQUIRE(options->cgroups.size() == 2);
    CHECK(options->cgroups[0].controller == "cpuset");
    CHECK(options->cgroups[0].file == "cpuset.cpus");
    CHECK(options->cgroups[0].value == "0-3,5");
    CHECK(options->cgroups[1].file == "memory.limit_in_bytes");
}

TEST_CASE("jailer options: the last of repeated limits holds") {
    const auto options = parse(
        with({"--resource-limit", "no-file=10", "--resource-limit", "no-file=20", "--resource-limit", "fsize=0"}));
    REQUIRE(options.has_value());
    CHECK(options->limits.open_files == 20);
    CHECK(options->limits.file_size_bytes == 0);
}

TEST_CASE("jailer options: the number that means 'no change' is no user") {
    CHECK(!parse({"--id", "a", "--exec-file", "x", "--uid", "4294967295", "--gid", "1"}));
    CHECK(parse({"--id", "a", "--exec-file", "x", "--uid", "4294967294", "--gid", "1"}));
}

TEST_CASE("jailer options: an error names the flag") {
    const auto options = parse(with({"--nets", "x"}));
    REQUIRE(!options);
    CHECK(options.error().message.find("--nets") != std::string::npos);
}
