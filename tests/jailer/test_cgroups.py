# SPDX-License-Identifier: Apache-2.0
"""cgroups of version 1, of version 2, and both on one host. Which of them a host has decides which tests it can run; the
lab has all three (tests/lab/run --cgroup v1|v2|hybrid)."""
import os
import subprocess

import pytest
from conftest import cgroups_named, wait_for

V1 = os.path.exists("/sys/fs/cgroup/pids/tasks")
V2 = next((p for p in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") if os.path.exists(f"{p}/cgroup.controllers")), None)
V2_CONTROLLERS = open(f"{V2}/cgroup.controllers").read().split() if V2 else []
STAY = ["--report", "/run/report", "--wait"]

needs_v1 = pytest.mark.skipif(not V1, reason="no version 1 cgroups here; tests/lab/run --cgroup v1 has them")
needs_v2 = pytest.mark.skipif(not V2, reason="no version 2 cgroups here; tests/lab/run --cgroup v2 has them")
needs_v2_controllers = pytest.mark.skipif("pids" not in V2_CONTROLLERS, reason="version 2 has no controllers here; "
                                          "tests/lab/run --cgroup v2 has them")


@pytest.fixture
def running(jails):
    """Starts a jail in the background; its pid."""
    pids = []

    def start(*flags):
        done = jails.run("--daemonize", *flags, program_arguments=STAY)
        assert done.returncode == 0, done.stderr
        jails.report()
        pids.append(jails.pid())
        return pids[-1]

    yield start
    for pid in pids:
        os.kill(pid, 9)
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"))


def read(path):
    with open(path) as file:
        return file.read().strip()


def cgroups_of(pid):
    return dict(line.split(":", 2)[1:] for line in read(f"/proc/{pid}/cgroup").split("\n"))


@needs_v1
def test_v1_values_and_membership(jails, running):
    pid = running("--cgroup", "pids.max=77", "--cgroup", "cpu.shares=300", "--cgroup", "cpu.cfs_period_us=50000")
    path = f"/jail-probe/{jails.id}"
    assert read(f"/sys/fs/cgroup/pids{path}/pids.max") == "77"
    assert read(f"/sys/fs/cgroup/cpu{path}/cpu.shares") == "300"
    assert read(f"/sys/fs/cgroup/cpu{path}/cpu.cfs_period_us") == "50000"
    mine = cgroups_of(pid)
    for controllers, where in mine.items():
        assert (where == path) == bool({"pids", "cpu"} & set(controllers.split(","))), controllers
    own = read(f"/sys/fs/cgroup/pids{path}/cgroup.procs").split()
    assert own == [str(pid)], "the jailer itself is in there"


@needs_v1
def test_v1_parent_of_several_levels(jails, running):
    running("--cgroup", "pids.max=5", "--parent-cgroup", "jail-a/b/c")
    assert read(f"/sys/fs/cgroup/pids/jail-a/b/c/{jails.id}/pids.max") == "5"


@needs_v1
def test_v1_cpuset_takes_what_it_lacks_from_above(jails, running):
    pid = running("--cgroup", "cpuset.cpus=0", "--parent-cgroup", "jail-set/deep")
    path = f"/sys/fs/cgroup/cpuset/jail-set/deep/{jails.id}"
    assert read(f"{path}/cpuset.cpus") == "0"
    assert read(f"{path}/cpuset.mems") == read("/sys/fs/cgroup/cpuset/cpuset.mems")
    assert read(f"{path}/cgroup.procs") == str(pid)


@needs_v1
@pytest.mark.parametrize("setting, word", [("pids.nope=1", "pids.nope"), ("nosuch.max=1", "nosuch is not mounted"),
                                           ("pids.max=x", "'x'"), ("cpuset.cpus=4095", "4095")])
def test_v1_a_setting_that_fails_leaves_nothing(jails, setting, word):
    done = jails.run("--cgroup", "freezer.state=THAWED", "--cgroup", setting)
    assert done.returncode == 1 and word in done.stderr and done.stderr.count("\n") == 1
    assert cgroups_named(jails.id) == [] and cgroups_named("jail-probe") == [] and os.listdir(jails.base) == []


@needs_v2_controllers
def test_v2_values_and_membership(jails, running):
    pid = running("--cgroup-version", "2", "--cgroup", "pids.max=77", "--cgroup", "memory.max=268435456")
    path = f"/jail-probe/{jails.id}"
    assert read(f"{V2}{path}/pids.max") == "77" and read(f"{V2}{path}/memory.max") == "268435456"
    assert cgroups_of(pid)[""] == path
    assert read(f"{V2}{path}/cgroup.procs") == str(pid)


@needs_v2_controllers
def test_v2_parent_of_several_levels(jails, running):
    running("--cgroup-version", "2", "--cgroup", "pids.max=9", "--parent-cgroup", "jail-a/b/c")
    assert read(f"{V2}/jail-a/b/c/{jails.id}/pids.max") == "9"


@needs_v2_controllers
def test_v2_a_parent_with_processes_is_named(jails):
    os.makedirs(f"{V2}/jail-busy")
    sleeper = subprocess.Popen(["sleep", "60"])
    with open(f"{V2}/jail-busy/cgroup.procs", "w") as file:
        file.write(str(sleeper.pid))
    done = jails.run("--cgroup-version", "2", "--cgroup", "memory.max=max", "--parent-cgroup", "jail-busy")
    sleeper.kill()
    sleeper.wait()
    assert done.returncode == 1 and "holds processes itself" in done.stderr and cgroups_named(jails.id) == []


@needs_v2
def test_v2_core_files_need_no_controller(jails, running):
    pid = running("--cgroup-version", "2", "--cgroup", "cgroup.max.depth=3")
    assert read(f"{V2}/jail-probe/{jails.id}/cgroup.max.depth") == "3"
    assert cgroups_of(pid)[""] == f"/jail-probe/{jails.id}"


@needs_v2
def test_v2_without_settings_an_existing_parent_is_entered(jails, running):
    os.makedirs(f"{V2}/jail-parent")
    pid = running("--cgroup-version", "2", "--parent-cgroup", "jail-parent")
    assert cgroups_of(pid)[""] == "/jail-parent" and cgroups_named(jails.id) == []


@needs_v2
def test_v2_without_settings_nothing_is_made(jails, running):
    before = cgroups_of(os.getpid())[""]
    pid = running("--cgroup-version", "2", "--parent-cgroup", "jail-missing")
    assert cgroups_of(pid)[""] == before and cgroups_named("jail-missing") == []


@needs_v2
def test_v2_a_controller_that_is_not_there(jails):
    done = jails.run("--cgroup-version", "2", "--cgroup", "nosuch.max=1")
    assert done.returncode == 1 and "nosuch" in done.stderr and done.stderr.count("\n") == 1
    assert cgroups_named(jails.id) == [] and os.listdir(jails.base) == []


def test_a_failure_inside_a_cgroup_leaves_it_first(jails, tmp_path):
    """The program cannot be executed: by then the process is in the cgroup that has to be removed."""
    program = tmp_path / "jail-broken"
    program.write_text("no program")
    program.chmod(0o755)
    flags = ["--cgroup", "pids.max=50"] if V1 else ["--cgroup-version", "2", "--cgroup", "cgroup.max.depth=3"]
    for extra in ([], ["--daemonize"], ["--new-pid-ns"]):
        done = jails.run(*flags, *extra, program=str(program))
        assert done.returncode == 1 and "cannot execute" in done.stderr
        assert cgroups_named(jails.id) == [] and cgroups_named("jail-broken") == []
