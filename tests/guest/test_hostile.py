# SPDX-License-Identifier: Apache-2.0
"""Guests that attack the monitor: it stays up and small, and everything but what was attacked goes on."""
import json
import os
import socket
import subprocess
import threading
import time

import net
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


def survives(tmp_path, guest, arguments="", engine="Async", read_only=False, devices=None, most_rss_kib=MOST_RSS_KIB):
    config = machine(tmp_path, guest, arguments, engine, read_only) | (devices or {})
    with wisp.Vm(tmp_path, config, stdin=subprocess.PIPE) as vm:
        vm.wait_for(r"alive\n", 240)
        assert SANITIZED or status_kib(vm.process.pid, "VmHWM") < most_rss_kib
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


@pytest.mark.parametrize("segment, good, refused", [(128 << 10, 256, 0), (129 << 10, 0, 256)])
def test_longest_requests(tmp_path, segment, good, refused):
    """64 requests of 126 segments at a time; a segment longer than SIZE_MAX is refused."""
    config = machine(tmp_path, "hostile_giant", f"segment={segment} rounds=4", "Async", True)
    os.truncate(tmp_path / "attacked", 32 << 20)
    with wisp.Vm(tmp_path, config, stdin=subprocess.PIPE, api_sock=f"{tmp_path}/api.sock") as vm:
        vm.wait_for("begun")
        while "good=" not in vm.output:
            vm.request("GET", "/", None)
        vm.wait_for(f"good={good} refused={refused}")
        vm.wait_for(r"alive\n")
        assert SANITIZED or status_kib(vm.process.pid, "VmHWM") < MOST_RSS_KIB
        vm.send("q")
        assert vm.wait().code == wisp.EXIT_OK


@pytest.mark.parametrize("engine", ["Async", "Sync"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_race(tmp_path, seed, engine):
    # Read-only, so that what is read are zeroes: read over a page table, anything else would be the end of the guest. A drive's
    # name and the status of a request are none, and may hit it too, seldom: then another one tries.
    for more_seed in range(0, 500, 100):
        try:
            survives(tmp_path, "hostile_race", f"seed={seed + more_seed} rounds=60", engine, read_only=True)
            break
        except AssertionError as failure:
            if "triple fault" not in str(failure):
                raise
    else:
        pytest.fail("every guest lost")


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


@pytest.fixture
def echo():
    """A tap behind which every frame is sent back."""
    with net.own_namespace(), net.tap(address=False) as tap:
        peer = subprocess.Popen([f"{wisp.TOOLS}/net_peer", "echo", tap.name], stdout=subprocess.PIPE)
        assert peer.stdout.readline() == b"ready\n"
        yield tap
        peer.kill()
        peer.wait()


def counted(tmp_path, group):
    return json.loads((tmp_path / "metrics").read_text().splitlines()[-1])[group]


@pytest.mark.parametrize("seed", [1, 2])
def test_network_interface(tmp_path, echo, seed):
    devices = {"network-interfaces": [net.interface(echo.name)], "metrics": {"metrics_path": str(tmp_path / "metrics")}}
    result = survives(tmp_path, "hostile_net", f"seed={seed} rounds=30", devices=devices)
    assert len(result.output.splitlines()) < 1000, "a guest can fill the log"
    assert counted(tmp_path, "net_eth0")["tx_malformed_frames"] > 500


class Sockets:
    """Ports of the host: 5000 sends back what comes, 5001 takes connections and never reads."""

    def __init__(self, uds_path):
        self.listeners = [self._listen(f"{uds_path}_5000"), self._listen(f"{uds_path}_5001")]
        self.deaf = []
        threading.Thread(target=self._serve, daemon=True).start()
        threading.Thread(target=self._collect, daemon=True).start()

    @staticmethod
    def _listen(path):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(1024)
        return listener

    def _serve(self):
        while True:
            stream, _ = self.listeners[0].accept()
            threading.Thread(target=self._echo, args=(stream,), daemon=True).start()

    @staticmethod
    def _echo(stream):
        try:
            with stream:
                while data := stream.recv(1 << 16):
                    stream.sendall(data)
        except OSError:
            pass  # the guest has reset it

    def _collect(self):
        while True:
            self.deaf.append(self.listeners[1].accept()[0])


@pytest.mark.parametrize("seed", [1, 2])
def test_vsock(tmp_path, seed):
    uds_path = tmp_path / "v"
    sockets = Sockets(uds_path)
    devices = {"vsock": {"guest_cid": 3, "uds_path": str(uds_path)}, "metrics": {"metrics_path": str(tmp_path / "metrics")}}
    # What connections may hold: 64 KiB each, and 64 MiB for all.
    result = survives(tmp_path, "hostile_vsock", f"seed={seed} rounds=30", devices=devices, most_rss_kib=MOST_RSS_KIB + (128 << 10))
    assert len(result.output.splitlines()) < 1000, "a guest can fill the log"
    assert counted(tmp_path, "vsock")["conns_added"] > 1000 and sockets.deaf
    assert not uds_path.exists()
