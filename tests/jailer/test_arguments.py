# SPDX-License-Identifier: Apache-2.0
import subprocess

import pytest
from conftest import JAILER, PROBE


def run(*arguments):
    return subprocess.run([JAILER, *arguments], capture_output=True, text=True, timeout=20)


def test_help_and_version_win_over_anything_else_on_the_line():
    for arguments in (["--help"], ["--bogus", "--help"], ["--help", "--version"]):
        done = run(*arguments)
        assert done.returncode == 0 and "--chroot-base-dir" in done.stdout and not done.stderr
    done = run("--version", "--bogus")
    assert done.returncode == 0 and done.stdout.startswith("Jailer v1.17")


def test_help_after_the_separator_is_the_programs():
    assert run("--", "--help").returncode == 1


GOOD = ["--id", "a", "--exec-file", PROBE, "--uid", "1", "--gid", "1"]


@pytest.mark.parametrize("arguments, word", [
    ([], "--id"),
    (["--id", "a", "--exec-file", PROBE, "--uid", "1"], "--gid"),
    (GOOD + ["--bogus"], "--bogus"),
    (GOOD + ["word"], "word"),
    (GOOD + ["-x"], "-x"),
    (GOOD + ["--id", "b"], "more than once"),
    (GOOD + ["--netns"], "needs a value"),
    (GOOD + ["--netns", "--"], "needs a value"),
    (GOOD + ["--netns", ""], "empty"),
    (GOOD + ["--daemonize=1"], "takes no value"),
    (["--id", "", *GOOD[2:]], "--id"),
    (["--id", "a" * 65, *GOOD[2:]], "65"),
    (["--id", "a/b", *GOOD[2:]], "position 1"),
    (["--id", "..", *GOOD[2:]], "position 0"),
    (["--id", "a_b", *GOOD[2:]], "position 1"),
    (GOOD[:4] + ["--gid", "1", "--uid", "-1"], "--uid -1"),
    (GOOD[:4] + ["--gid", "1", "--uid", "4294967295"], "4294967294"),
    (GOOD[:4] + ["--uid", "1", "--gid", "4294967296"], "--gid"),
    (GOOD[:4] + ["--uid", "1", "--gid", "12x"], "--gid 12x"),
    (GOOD + ["--cgroup-version", "3"], "1 or 2"),
    (GOOD + ["--cgroup", "cpu.shares"], "cpu.shares"),
    (GOOD + ["--cgroup", "cpu.shares="], "cpu.shares="),
    (GOOD + ["--cgroup", "cpu.shares=1=2"], "1=2"),
    (GOOD + ["--cgroup", "=1"], "=1"),
    (GOOD + ["--cgroup", "../cpu.shares=1"], "../cpu"),
    (GOOD + ["--parent-cgroup", "/abs"], "/abs"),
    (GOOD + ["--parent-cgroup", "a/../b"], "a/../b"),
    (GOOD + ["--parent-cgroup", "./a"], "./a"),
    (GOOD + ["--parent-cgroup", "a//b"], "a//b"),
    (GOOD + ["--resource-limit", "cpu=1"], "cpu=1"),
    (GOOD + ["--resource-limit", "no-file"], "no-file"),
    (GOOD + ["--resource-limit", "no-file=-1"], "not a number"),
])
def test_a_wrong_argument_is_one_clear_line_and_exit_code_1(arguments, word):
    done = run(*arguments)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("wisp-jailer: ") and done.stderr.count("\n") == 1 and word in done.stderr


def test_values_may_follow_an_equals_sign(jails):
    done = run("--id=eq", f"--exec-file={PROBE}", "--uid=5", "--gid=6", f"--chroot-base-dir={jails.base}",
               "--resource-limit=no-file=64")
    assert done.returncode == 0, done.stderr
