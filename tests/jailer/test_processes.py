# SPDX-License-Identifier: Apache-2.0
"""Daemons, namespaces, many at once, and being stopped."""
import json
import os
import signal
import subprocess
import time

import pytest
from conftest import FAULTY, tree_of, wait_for

STAY = ["--report", "/run/report", "--wait"]


def end(pid):
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}") or open(f"/proc/{pid}/stat").read().split()[2] == "Z")


def test_daemonize(jails):
    done = jails.run("--daemonize", program_arguments=STAY)
    assert done.returncode == 0 and not done.stderr
    seen, pid = jails.report(), jails.pid()
    assert seen["pid"] == pid and seen["sid"] not in (pid, os.getsid(0))
    assert seen["stdin_rdev"] == [1, 3] and seen["fds"] == [0, 1, 2]
    end(pid)


def test_new_pid_namespace(jails):
    # Not a daemon: it keeps the standard streams, so no pipe of ours may wait for their end.
    assert subprocess.run(jails.command("--new-pid-ns", program_arguments=STAY), stdout=subprocess.DEVNULL).returncode == 0
    seen, pid = jails.report(), jails.pid()
    assert seen["pid"] == 1 and pid > 1
    assert os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
    end(pid)


def test_daemonize_in_a_new_pid_namespace(jails):
    assert jails.run("--daemonize", "--new-pid-ns", program_arguments=STAY).returncode == 0
    seen, pid = jails.report(), jails.pid()
    assert seen["pid"] == 1 and seen["stdin_rdev"] == [1, 3] and seen["sid"] == 0
    end(pid)


@pytest.mark.parametrize("flags", [["--daemonize"], ["--new-pid-ns"], ["--daemonize", "--new-pid-ns"]])
def test_a_background_program_that_cannot_be_executed_is_an_error(jails, tmp_path, flags):
    broken = tmp_path / "jail-probe"
    broken.write_text("not a program")
    broken.chmod(0o755)
    done = jails.run(*flags, program=str(broken))
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "cannot execute jail-probe" in done.stderr
    assert os.listdir(jails.base) == []


def test_network_namespace(jails):
    name = f"wisp-jail-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "add", "inside0", "type", "dummy"], check=False)
        subprocess.run(["ip", "-n", name, "tuntap", "add", "inside1", "mode", "tap"], check=True)
        interfaces = jails.see("--netns", f"/var/run/netns/{name}")["interfaces"]
        assert "inside1" in interfaces
        assert "inside1" not in jails.see()["interfaces"]
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_twenty_at_once(jails):
    processes = [subprocess.Popen(jails.command(id=f"jail-many-{i}"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                 for i in range(20)]
    for i, process in enumerate(processes):
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert json.loads(out)["argv"][2] == f"jail-many-{i}"
    assert len(os.listdir(f"{jails.base}/jail-probe")) == 20


def test_twenty_at_once_of_which_half_fail(jails):
    """Those that fail remove the directory they all share, if they made it; the others must not notice."""
    environment = {"WISP_JAILER_FAIL_AFTER": "make the jail's directory"}
    for _ in range(5):
        processes = [subprocess.Popen(jails.command(id=f"jail-mix-{i}", jailer=FAULTY), env=environment if i % 2 else {},
                                      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for i in range(20)]
        for i, process in enumerate(processes):
            _, err = process.communicate(timeout=60)
            assert process.returncode == i % 2, err
        assert sorted(os.listdir(f"{jails.base}/jail-probe")) == sorted(f"jail-mix-{i}" for i in range(0, 20, 2))
        subprocess.run(["rm", "-rf", f"{jails.base}/jail-probe"], check=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_set_up_takes_everything_back(jails, number):
    """A monitor's pipe that is not read keeps nothing; a fifo in the place of a slow host keeps the jailer waiting."""
    stops = 0
    for delay_us in range(0, 3000, 150):
        process = subprocess.Popen(jails.command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(delay_us / 1e6)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        if process.returncode == 1:
            assert f"stopped by {number.name}" in err
            stops += 1
            assert not os.path.exists(jails.folder()), "left behind"
    print(f"{stops} of 20 were stopped during set-up")


def test_nothing_but_the_jail_is_left_of_a_killed_program(jails):
    before = tree_of("/run/netns") if os.path.exists("/run/netns") else {}
    mounts = open("/proc/self/mountinfo").read()
    process = subprocess.Popen(jails.command(program_arguments=STAY))
    jails.report()
    process.kill()
    process.wait()
    assert open("/proc/self/mountinfo").read() == mounts
    assert (tree_of("/run/netns") if os.path.exists("/run/netns") else {}) == before
