# SPDX-License-Identifier: Apache-2.0
"""A host file system that is frozen (fsfreeze, as backups do) under a drive: the other devices, the API and the end go on."""
import concurrent.futures
import contextlib
import os
import subprocess

import pytest
import wisp


def command(*words):
    return subprocess.run(words, capture_output=True, text=True)


@contextlib.contextmanager
def file_system(tmp_path):
    """The mount point of a file system of our own; skips where the host does not let us make one."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    image, mount_point = tmp_path / "image", tmp_path / "mounted"
    mount_point.mkdir()
    with open(image, "wb") as out:
        out.truncate(64 << 20)
    for step in (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(mount_point)]):
        try:
            done = command(*step)
        except FileNotFoundError:
            pytest.skip(f"no {step[0]} here")
        if done.returncode != 0:
            pytest.skip(f"{' '.join(step)}: {done.stderr.strip()}")
    try:
        yield mount_point
    finally:
        command("umount", "-l", str(mount_point))  # a ring that has just ended may still hold the file


@contextlib.contextmanager
def frozen(mount_point):
    assert command("fsfreeze", "-f", str(mount_point)).returncode == 0
    thaw = lambda: command("fsfreeze", "-u", str(mount_point))
    try:
        yield thaw
    finally:
        thaw()


def drive_on(path, name, **more):
    with open(path, "wb") as out:
        out.write(bytes(2 << 20))
        os.fsync(out.fileno())
    return wisp.drive(path, id=name, root=False, **more)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("engine", ["Async", "Sync"])
def test_other_devices_and_the_api_go_on(tmp_path, engine, direct):
    with file_system(tmp_path) as mount_point:
        drives = [drive_on(mount_point / "disk", "frozen", io_engine=engine, direct=direct), drive_on(tmp_path / "disk", "other")]
        config = wisp.machine(wisp.guest("frozen_drive"), boot_args="reboot=k", drives=drives)
        with wisp.Vm(tmp_path, config, stdin=subprocess.PIPE, api_sock=f"{tmp_path}/api.sock") as vm:
            vm.wait_for("ready")
            with frozen(mount_point) as thaw:
                vm.send("w")
                vm.wait_for("other drive done, errors=0 frozen=1")
                vm.request("GET", "/", None)
                assert thaw().returncode == 0
            vm.send("t")
            vm.wait_for("thawed, errors=0")
            assert vm.wait().code == wisp.EXIT_OK


def test_a_pause_that_a_frozen_drive_keeps_names_it_and_is_undone(tmp_path):
    with file_system(tmp_path) as mount_point:
        drives = [drive_on(mount_point / "disk", "frozen"), drive_on(tmp_path / "disk", "other")]
        config = wisp.machine(wisp.guest("frozen_drive"), boot_args="reboot=k", drives=drives)
        with wisp.Vm(tmp_path, config, stdin=subprocess.PIPE, api_sock=f"{tmp_path}/api.sock") as vm:
            vm.wait_for("ready")
            with frozen(mount_point) as thaw:
                vm.send("w")
                vm.wait_for("other drive done, errors=0 frozen=1")
                with concurrent.futures.ThreadPoolExecutor(1) as other:
                    paused = other.submit(vm.ask, "PATCH", "/vm", {"state": "Paused"})
                    answered = 0
                    while not paused.done():
                        vm.request("GET", "/vm/config", None)
                        answered += 1
                    status, text = paused.result()
                assert status == 400 and "drive frozen did not stop" in text, text
                assert answered > 0
                assert '"state":"Running"' in vm.request("GET", "/", None)
                assert thaw().returncode == 0
            vm.request("PATCH", "/vm", {"state": "Paused"})
            vm.request("PATCH", "/vm", {"state": "Resumed"})
            vm.send("t")
            vm.wait_for("thawed, errors=0")
            assert vm.wait().code == wisp.EXIT_OK


def test_an_end_with_a_frozen_drive_says_what_is_waited_for(tmp_path):
    with file_system(tmp_path) as mount_point:
        drives = [drive_on(mount_point / "disk", "frozen", cache_type="Writeback"), drive_on(tmp_path / "disk", "other", cache_type="Writeback")]
        config = wisp.machine(wisp.guest("frozen_drive"), boot_args="reboot=k", drives=drives)
        with wisp.Vm(tmp_path, config, stdin=subprocess.PIPE, api_sock=f"{tmp_path}/api.sock") as vm:
            vm.wait_for("ready")
            with frozen(mount_point) as thaw:
                vm.send("w")
                vm.wait_for("other drive done, errors=0 frozen=1")
                vm.signal(15)
                # The drives have some seconds to end. Requests are answered meanwhile, and change nothing any more.
                assert vm.ask("PATCH", "/vm", {"state": "Paused"})[0] in (204, 400)
                assert vm.ask("PATCH", "/vm", {"state": "Resumed"})[0] in (204, 400)
                assert vm.ask("GET", "/", None)[0] == 200
                vm.wait_for(r"drive frozen: the end of the machine does not wait for \d+ requests")
                assert "drive other: the end" not in vm.output
                thaw()
            assert vm.wait().code == -15
