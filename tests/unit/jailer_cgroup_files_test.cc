// SPDX-License-Identifier: Apache-2.0
#include "jailer/cgroup_files.h"

#include <catch2/catch.hpp>

using namespace wisp::jailer;

namespace {

constexpr char kMountinfo[] =
    "22 1 0:20 / /proc rw,relatime - proc proc rw\n"
    "30 22 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
    "31 22 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 master:3 - cgroup cgroup rw,cpu,cpuacct\n"
    "32 22 0:28 / /mnt/with\\040space\\134 rw - cgroup cgroup rw,pids\n";

}  // namespace

TEST_CASE("cgroup mounts: found by type and controller, whole words only") {
    CHECK(find_mount(kMountinfo, "cgroup2", "") == "/sys/fs/cgroup/unified");
    CHECK(find_mount(kMountinfo, "cgroup", "cpu") == "/sys/fs/cgroup/cpu,cpuacct");
    CHECK(find_mount(kMountinfo, "cgroup", "cpuacct") == "/sys/fs/cgroup/cpu,cpuacct");
    CHECK(find_mount(kMountinfo, "cgroup", "acct").empty());
    CHECK(find_mount(kMountinfo, "cgroup", "memory").empty());
}

TEST_CASE("cgroup mounts: escapes in a mount point") {
    CHECK(find_mount(kMountinfo, "cgroup", "pids") == "/mnt/with space\\");
}

TEST_CASE("cgroup mounts: a text cut short anywhere is no harm") {
    const std::string_view all = kMountinfo;
    for (size_t length = 0; length < all.size(); ++length) find_mount(all.substr(0, length), "cgroup", "pids");
}

TEST_CASE("own cgroup: by controller, and of version 2") {
    constexpr char kText[] = "5:cpu,cpuacct:/a\n4:name=systemd:/user\n1:pids:/b:c\n0::/two\n";
    CHECK(find_own_cgroup(kText, "cpuacct") == "/a");
    CHECK(find_own_cgroup(kText, "pids") == "/b:c");
    CHECK(find_own_cgroup(kText, "") == "/two");
    CHECK(find_own_cgroup(kText, "memory") == "/");
    CHECK(find_own_cgroup("", "") == "/");
}

TEST_CASE("cgroup path: components") {
    CHECK(split_path("a/b/c") == std::vector<std::string>{"a", "b", "c"});
    CHECK(split_path("").empty());
    CHECK(split_path("a/") == std::vector<std::string>{"a"});
}
