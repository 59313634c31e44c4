# SPDX-License-Identifier: Apache-2.0
"""What the jailer's tests share. They need root, and run on a host or, for all three kinds of cgroup host, in the lab."""
import json
import os
import shutil
import subprocess
import tempfile
import time

import pytest

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("WISP_BUILD") or f"{PROJECT}/build"
JAILER = os.environ.get("WISP_JAILER") or f"{BUILD}/wisp-jailer"
FAULTY = f"{BUILD}/tests/wisp-jailer-faults"
PROBE = f"{BUILD}/tests/jail-probe"
UID, GID = 31234, 31235


def pytest_sessionstart(session):
    if os.geteuid() != 0:
        pytest.exit("the jailer's tests need root (or the lab: tests/lab/run -- python3 -m pytest tests/jailer)", 1)


class Jails:
    """Jails below one base directory."""

    def __init__(self, base):
        self.base = base
        self.count = 0

    def command(self, *extra, jailer=JAILER, id=None, program=PROBE, uid=UID, gid=GID, program_arguments=()):
        if id is None:
            self.count += 1
            id = f"jail-{os.getpid()}-{self.count}"
        self.id = id
        return [jailer, "--id", id, "--exec-file", program, "--uid", str(uid), "--gid", str(gid),
                "--chroot-base-dir", self.base, *extra, "--", *program_arguments]

    def run(self, *extra, env=None, timeout=30, stdin=subprocess.DEVNULL, **named):
        command = self.command(*extra, **named)
        return subprocess.run(command, env=env, timeout=timeout, capture_output=True, text=True, stdin=stdin)

    def see(self, *extra, **named):
        """What the probe saw in a jail."""
        done = self.run(*extra, **named)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def folder(self, id=None, program=PROBE):
        return f"{self.base}/{os.path.basename(program)}/{id or self.id}"

    def root(self, id=None, program=PROBE):
        return self.folder(id, program) + "/root"

    def report(self, name="run/report", id=None, seconds=20):
        """Waits for the file that a probe in the background writes."""
        path = f"{self.root(id)}/{name}"
        wait_for(lambda: os.path.exists(path), seconds)
        with open(path) as file:
            return json.load(file)

    def pid(self, id=None):
        with open(f"{self.root(id)}/jail-probe.pid") as file:
            return int(file.read())


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def tree_of(folder):
    """Everything below a folder with owner and mode, to compare before and after."""
    seen = {}
    for path, folders, files in os.walk(folder):
        for name in [".", *folders, *files]:
            status = os.lstat(f"{path}/{name}")
            seen[os.path.normpath(f"{path}/{name}")] = (status.st_mode, status.st_uid, status.st_gid, status.st_ino)
    return seen


def cgroups_named(text):
    found = []
    for path, folders, _ in os.walk("/sys/fs/cgroup"):
        found += [f"{path}/{folder}" for folder in folders if text in folder]
    return found


@pytest.fixture
def jails():
    base = tempfile.mkdtemp(prefix="wisp-jails-")
    os.chmod(base, 0o755)
    yield Jails(base)
    remove_cgroups()
    shutil.rmtree(base)


def remove_cgroups():
    """Leaves first; a jail that has ended leaves its cgroups to whoever started it, as Firecracker's jailer does."""
    for top in cgroups_named("jail-"):
        for path, _, _ in os.walk(top, topdown=False):
            for _ in range(100):
                try:
                    os.rmdir(path)
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)
