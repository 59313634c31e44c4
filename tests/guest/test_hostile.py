# SPDX-License-Identifier: Apache-2.0
"""Guests that attack the monitor: it stays up and small, and everything but what was attacked goes on."""
import os
import subprocess
import time

import pytest
import wisp

SANITIZED = "--no-seccomp" in wisp.FLAGS
MOST_RSS_KIB = 48 << 10  # of which a guest touches 20 MiB at most


def status_kib(pid, name):
    return int(next(line.split()[1] for line in open(f"/proc/{pid}/status") if line.startswith(name + ":")))


def loop_ticks(pid):
    return sum(int(n) for n in open(f"/proc/{pid}/task/{pid}/stat").read().rsplit(")")[1].split()[11:13])


def machine(tmp_path, guest, arguments, engine, read_only):
    drives = []
    for name in ("attacked", "other"):
        path = tmp_path / name
        with open(path, "wb") as out:
            out.truncate(1 << 20)
        drives.append(wisp.drive(path, id=name, root=False, read_only=read_only, io_engine=engine))
    return wisp.machine(wisp.guest(guest), boot_args=f"reboot=k {arguments}", mem_mib=64, drives=drives)


def survives(tmp_path, guest, arguments="", engine="Async", read_only=False):
    config = machine(tmp_path, guest, arguments, engine, read_only)
    with wisp.Vm(tmp_path, config, stdin=subprocess.PIPE) as vm:
        vm.wait_for(r"alive\n", 120)
        assert SANITIZED or status_kib(vm.process.pid, "VmHWM") < MOST_RSS_KIB
        before = loop_ticks(vm.process.pid)
        time.sleep(0.3)
        assert loop_ticks(vm.process.pid) - before <= 10, "the loop is busy though nobody wants anything"
        vm.send("q")
        result = vm.wait()
    assert result.code == wisp.EXIT_OK and "error: " not in result.output, result.output[-2000:]
    assert os.path.getsize(tmp_path / "other") == 1 << 20
    return result


@pytest.mark.parametrize("engine", ["Async", "Sync"])
@pytest.mark.parametrize("guest", ["hostile_registers", "hostile_rings", "hostile_chains"])
def test_attack(tmp_path, guest, engine):
    result = survives(tmp_path, guest, engine=engine)
    assert len(result.output.splitlines()) < 1000, "a guest can fill the log"


@pytest.mark.parametrize("engine", ["Async", "Sync"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_race(tmp_path, seed, engine):
    # Read-only, so that what is read are zeroes: read over a page table, anything else would be the end of the guest.
    survives(tmp_path, "hostile_race", f"seed={seed} rounds=60", engine, read_only=True)


@pytest.mark.parametrize("engine", ["Async", "Sync"])
def test_a_race_that_the_guest_may_lose(tmp_path, engine):
    config = machine(tmp_path, "hostile_race", "seed=7 rounds=60", engine, read_only=False)
    with wisp.Vm(tmp_path, config, stdin=subprocess.PIPE) as vm:
        vm.send("q")
        result = vm.wait()
    ended_by_itself = result.code == wisp.EXIT_OK and "alive" in result.output
    assert ended_by_itself or (result.code == wisp.EXIT_GENERIC and "triple fault" in result.output), result


def test_every_port(tmp_path):
    survives(tmp_path, "hostile_ports")
