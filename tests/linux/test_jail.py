# SPDX-License-Identifier: Apache-2.0
"""wisp-jailer and wisp together: a Linux guest in a jail, with a tap of the jail's network namespace and a vsock device whose
socket lies in the jail; an unprivileged user, cgroups, a new process namespace; many at once; nothing left behind."""
import json
import os
import shutil
import subprocess
import tempfile
import time

import net
import pytest
import standstill
import vsock_agent
import wisp
from test_vsock import BOOT_ARGS, INITRD, KERNEL

JAILER = f"{wisp.BUILD}/wisp-jailer"
UID, GID = 41000, 41001


class Jail:
    def __init__(self, base, name, namespace=None):
        self.id, self.namespace = name, namespace
        self.base = base
        self.folder = f"{base}/wisp/{name}"
        self.root = f"{self.folder}/root"
        os.makedirs(self.root, mode=0o755)

    def put(self, path, name):
        shutil.copyfile(path, f"{self.root}/{name}")
        os.chown(f"{self.root}/{name}", UID, GID)

    def start(self, config, *flags):
        with open(f"{self.root}/machine.json", "w") as out:
            json.dump(config, out)
        os.chown(f"{self.root}/machine.json", UID, GID)
        command = [JAILER, "--id", self.id, "--exec-file", wisp.WISP, "--uid", str(UID), "--gid", str(GID), "--chroot-base-dir", self.base]
        if self.namespace:
            command += ["--netns", f"/run/netns/{self.namespace}"]
        return subprocess.Popen([*command, *flags, "--", "--no-api", "--config-file", "machine.json"], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def base():
    folder = tempfile.mkdtemp(prefix="j", dir="/tmp")  # short: socket paths lie below it
    os.chmod(folder, 0o755)
    yield folder
    for pid in monitors():  # of a test that failed
        os.kill(int(pid), 9)
    shutil.rmtree(folder)


@pytest.fixture
def namespace():
    name = f"wisp-jail-{os.getpid()}"
    net.ip("netns", "add", name)
    net.ip("-n", name, "tuntap", "add", "wtap0", "mode", "tap", "user", UID)
    net.ip("-n", name, "address", "add", "10.78.0.1/24", "dev", "wtap0")
    net.ip("-n", name, "link", "set", "wtap0", "up")
    yield name
    net.ip("netns", "delete", name)


def monitors():
    """Processes of the jail's user."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{pid}").st_uid == UID:
                found.append(pid)
        except FileNotFoundError:
            pass
    return found


def cgroup_version():
    return "2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "1"


def cgroups():
    return [path for path, _, _ in os.walk("/sys/fs/cgroup") if "/wisp/" in path]


@pytest.mark.parametrize("own_processes", [False, True])
def test_a_linux_guest_with_network_and_vsock(base, namespace, own_processes):
    jail = Jail(base, "linux", namespace)
    jail.put(KERNEL, "kernel")
    jail.put(INITRD, "initrd")
    mounts = open("/proc/self/mountinfo").read()
    config = wisp.machine("kernel", boot_args=f"{BOOT_ARGS} ip=10.78.0.2::10.78.0.1:255.255.255.0::eth0:off wisp.agent -- /bin/sleep 100000",
                          initrd="initrd", vsock={"guest_cid": 3, "uds_path": "run/v"}, **{"network-interfaces": [net.interface("wtap0")]})
    flags = ["--cgroup-version", cgroup_version(), "--cgroup", "pids.max=100", *(["--new-pid-ns"] if own_processes else [])]
    process = jail.start(config, *flags)
    try:
        agent = vsock_agent.Agent(f"{jail.root}/run/v").wait(wisp.LIMIT_S)
        assert monitors() and cgroups()
        assert agent.run(["ping", "-c", "2", "-W", "10", "10.78.0.1"]).status == 0
        subprocess.run(["ip", "netns", "exec", namespace, net.BUSYBOX, "ping", "-c", "2", "-W", "10", "10.78.0.2"], check=True,
                       capture_output=True)
        agent.start(["poweroff", "-f"]).turn(5)
        output, _ = process.communicate(timeout=wisp.LIMIT_S)
        deadline = time.monotonic() + wisp.LIMIT_S
        while monitors():
            assert time.monotonic() < deadline, "a monitor is left"
        assert process.returncode == 0, output
        assert not os.path.exists(f"{jail.root}/run/v")
        assert open("/proc/self/mountinfo").read() == mounts
    finally:
        if process.poll() is None:
            print(standstill.report())
        for pid in monitors():
            os.kill(int(pid), 9)
        process.kill()
        process.wait()
        if not process.stdout.closed:
            print("the guest's console:", process.stdout.read())
        remove_cgroups()
    assert not cgroups()


def remove_cgroups():
    """The groups stay, empty, for the program that started the jail to remove."""
    for path in sorted(cgroups(), key=len, reverse=True):
        for _ in range(1000):
            try:
                os.rmdir(path)
                break
            except OSError:
                time.sleep(0.01)


def test_twenty_at_once(base):
    """Tiny guests that print a line and reset."""
    jails = [Jail(base, f"tiny{i}") for i in range(20)]
    for jail in jails:
        jail.put(wisp.guest("reset"), "kernel")
    mounts = open("/proc/self/mountinfo").read()
    processes = [jail.start(wisp.machine("kernel", mem_mib=32), *(["--new-pid-ns"] if i % 2 else [])) for i, jail in enumerate(jails)]
    ended = [(process.communicate(timeout=wisp.LIMIT_S)[0], process.returncode) for process in processes]
    assert [code for _, code in ended] == [0] * 20, ended
    deadline = time.monotonic() + wisp.LIMIT_S
    while monitors():
        assert time.monotonic() < deadline
    assert open("/proc/self/mountinfo").read() == mounts


def test_a_killed_jail_leaves_its_folder_and_nothing_else(base, namespace):
    jail = Jail(base, "killed", namespace)
    jail.put(KERNEL, "kernel")
    jail.put(INITRD, "initrd")
    config = wisp.machine("kernel", boot_args=f"{BOOT_ARGS} wisp.agent -- /bin/sleep 100000", initrd="initrd",
                          vsock={"guest_cid": 3, "uds_path": "run/v"}, **{"network-interfaces": [net.interface("wtap0")]})
    process = jail.start(config)
    vsock_agent.Agent(f"{jail.root}/run/v").wait(wisp.LIMIT_S)
    process.kill()
    process.wait()
    assert not monitors()
    os.unlink(f"{jail.root}/run/v")  # a killed process cannot
    again = jail.start(config)  # the tap is free, and the folder is refused: a jail is used once
    output, _ = again.communicate(timeout=wisp.LIMIT_S)
    assert again.returncode == 1 and "used before" in output, output
