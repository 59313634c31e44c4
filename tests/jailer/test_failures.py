# SPDX-License-Identifier: Apache-2.0
"""Each step fails in turn, by injection and by what an enemy prepared; nothing is left behind."""
import os
import re
import stat
import subprocess

import pytest
from conftest import FAULTY, GID, PROBE, PROJECT, UID, cgroups_named, tree_of

STEPS = re.findall(r'^    \{"([^"]+)", \w+\},', open(f"{PROJECT}/jailer/jail.cc").read(), re.M)
NO_RETURN = ("become the program", "execute the program")  # they succeed by not coming back; see the test of the last step
BACKGROUND = [[], ["--daemonize"], ["--new-pid-ns"], ["--daemonize", "--new-pid-ns"]]


def cgroup_flags():
    """Some cgroup setting that this host has."""
    if os.path.exists("/sys/fs/cgroup/pids/tasks"):
        return ["--cgroup", "pids.max=100"]
    return ["--cgroup-version", "2", "--cgroup", "pids.max=100"]


def processes_of(jails):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if jails.id in open(f"/proc/{pid}/cmdline").read():
                found.append(pid)
        except OSError:
            pass
    return found


def test_all_steps_are_known():
    assert len(STEPS) == 23 and "enter the root" in STEPS and "drop capabilities" in STEPS


@pytest.mark.parametrize("flags", BACKGROUND, ids=lambda flags: "".join(flags) or "plain")
@pytest.mark.parametrize("step", [s for s in STEPS if s not in NO_RETURN])
def test_a_step_that_fails_leaves_nothing_behind(jails, step, flags):
    before, mounts = tree_of(jails.base), open("/proc/self/mountinfo").read()
    done = jails.run(*flags, *cgroup_flags(), jailer=FAULTY, env={"WISP_JAILER_FAIL_AFTER": step})
    assert done.returncode == 1
    assert done.stderr == f"wisp-jailer: {step}: injected fault\n" and not done.stdout
    assert tree_of(jails.base) == before
    assert open("/proc/self/mountinfo").read() == mounts
    assert cgroups_named(jails.id) == []
    assert processes_of(jails) == []


@pytest.mark.parametrize("step", ["make the root", "copy the executable", "enter the root", "drop capabilities"])
def test_a_step_that_fails_leaves_what_was_there_before(jails, step):
    command_id = "jail-prepared"
    root = jails.root(command_id)
    os.makedirs(f"{root}/dev", 0o750)
    open(f"{root}/vmlinux", "w").close()
    before = tree_of(jails.base)
    done = jails.run(id=command_id, jailer=FAULTY, env={"WISP_JAILER_FAIL_AFTER": step})
    assert done.returncode == 1 and tree_of(jails.base) == before
    assert jails.run(id=command_id).returncode == 0


def test_the_last_step_fails_with_all_privileges_given_up(jails, tmp_path):
    for name, content, word in (("text", b"hello", "not a program"), ("loader", dynamic_program(), "link it statically"),
                                ("script", b"#!/bin/sh\n", "statically")):
        program = tmp_path / name
        program.write_bytes(content)
        program.chmod(0o755)
        done = jails.run(*cgroup_flags(), program=str(program))
        assert done.returncode == 1 and "cannot execute" in done.stderr and word in done.stderr
        assert os.listdir(jails.base) == [] and cgroups_named(jails.id) == []


def dynamic_program():
    with open("/bin/true", "rb") as file:
        return file.read()


# What an enemy, or an accident, may have put in the way: at each path the jail makes.
PLACES = ["", "/{id}", "/{id}/root", "/{id}/root/dev", "/{id}/root/dev/net", "/{id}/root/run"]


def make_way(jails, place):
    path = f"{jails.base}/jail-probe" + place.format(id="jail-x")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["link to a directory", "dangling link", "file", "fifo", "foreign directory"])
def test_a_trap_in_place_of_a_directory_is_refused(jails, tmp_path, place, kind):
    path = make_way(jails, place)
    outside = tmp_path / "outside"
    outside.mkdir()
    if kind == "link to a directory":
        os.symlink(outside, path)
    elif kind == "dangling link":
        os.symlink(tmp_path / "nowhere", path)
    elif kind == "file":
        open(path, "w").close()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        os.mkdir(path)
        os.chown(path, 4711, 4711)
    before, outside_before = tree_of(jails.base), tree_of(tmp_path)
    done = jails.run(id="jail-x")
    assert done.returncode == 1 and path in done.stderr and done.stderr.count("\n") == 1
    assert tree_of(jails.base) == before and tree_of(tmp_path) == outside_before


FILES = ["jail-probe", "jail-probe.pid", "dev/kvm", "dev/net/tun", "dev/userfaultfd"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["link", "hard link"])
def test_a_trap_in_place_of_a_file_is_refused(jails, tmp_path, name, kind):
    if name == "dev/userfaultfd" and not os.path.exists("/dev/userfaultfd"):
        pytest.skip("this kernel has no /dev/userfaultfd (before 6.1)")
    path = f"{jails.root('jail-x')}/{name}"
    os.makedirs(os.path.dirname(path))
    victim = f"{jails.base}/victim"
    with open(victim, "w") as file:
        file.write("precious")
    os.symlink(victim, path) if kind == "link" else os.link(victim, path)
    before = tree_of(jails.base)
    done = jails.run(id="jail-x")
    assert done.returncode == 1 and path in done.stderr
    assert tree_of(jails.base) == before and open(victim).read() == "precious"


def test_an_old_copy_is_replaced_and_not_written_into(jails):
    root = jails.root("jail-x")
    os.makedirs(root)
    with open(f"{root}/jail-probe", "w") as old:
        old.write("old")
        old.flush()
        os.fchmod(old.fileno(), 0o755)
        held = os.open(f"{root}/jail-probe", os.O_RDWR)
    assert jails.run(id="jail-x").returncode == 0
    assert os.pread(held, 10, 0) == b"old", "whoever held the old file open must not get at the new one"
    os.close(held)


def test_a_jail_is_used_once(jails):
    assert jails.run(id="jail-x").returncode == 0
    before = tree_of(jails.base)
    done = jails.run(id="jail-x")
    assert done.returncode == 1 and "used before" in done.stderr and tree_of(jails.base) == before


def test_directories_prepared_by_root_are_handed_over(jails):
    os.makedirs(f"{jails.root('jail-x')}/dev")
    os.makedirs(f"{jails.root('jail-x')}/run")
    seen = jails.see(id="jail-x")
    assert {seen["tree"][d]["uid"] for d in ("/dev", "/run", "/dev/net")} == {UID}


def test_a_directory_that_passes_its_group_on_does_not_choose_the_jails(jails):
    os.makedirs(jails.folder("jail-x"))
    os.chown(jails.folder("jail-x"), 0, 77)
    os.chmod(jails.folder("jail-x"), 0o2755)
    seen = jails.see(id="jail-x")
    assert seen["tree"]["/dev/kvm"]["gid"] == GID and seen["tree"]["/run"]["mode"] == f"{stat.S_IFDIR | 0o700:o}"


def test_the_operators_own_paths_may_be_links(jails, tmp_path):
    os.symlink(jails.base, tmp_path / "base")
    command = jails.command(id="jail-x")
    command[command.index(jails.base)] = str(tmp_path / "base")
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert os.path.exists(jails.root("jail-x"))


@pytest.mark.parametrize("prepare, word", [
    (lambda p: None, "No such file"),
    (lambda p: os.mkdir(p), "not a regular file"),
    (lambda p: os.mkfifo(p, 0o755), "not a regular file"),
    (lambda p: os.mknod(p, stat.S_IFCHR | 0o755, os.makedev(1, 3)), "not a regular file"),
    (lambda p: open(p, "w").close(), "not executable"),
    (lambda p: os.symlink(p, p), "symbolic links"),
])
def test_an_executable_that_is_none(jails, tmp_path, prepare, word):
    path = str(tmp_path / "program")
    prepare(path)
    done = jails.run(program=path)
    assert done.returncode == 1 and word in done.stderr and path in done.stderr and os.listdir(jails.base) == []


def test_a_base_directory_that_is_none(jails):
    for base, word in ((f"{jails.base}/missing", "No such file"), (PROBE, "Not a directory")):
        command = jails.command()
        command[command.index(jails.base)] = base
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1 and base in done.stderr and word in done.stderr


def test_a_network_namespace_that_is_none(jails, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in ("/nowhere", "/etc/passwd", str(tmp_path / "fifo"), str(tmp_path)):
        done = jails.run("--netns", path, timeout=5)
        assert done.returncode == 1 and path in done.stderr and os.listdir(jails.base) == []


def test_without_root_it_says_what_is_missing(jails):
    os.chmod(jails.base, 0o777)
    done = subprocess.run(["setpriv", "--reuid", "4711", "--regid", "4711", "--clear-groups", *jails.command()],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "root" in done.stderr and os.listdir(jails.base) == []
