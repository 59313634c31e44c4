# SPDX-License-Identifier: Apache-2.0
"""Runs `wisp` for a test: a machine file from keyword arguments, its output and exit code back."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import standstill

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("WISP_BUILD") or f"{PROJECT}/build"
WISP = os.environ.get("WISP") or f"{BUILD}/wisp"
GUESTS = os.environ.get("WISP_GUESTS") or f"{BUILD}/guests"
TOOLS = f"{os.path.dirname(GUESTS)}/bench"  # guests and programs that no sanitizer is built into
FLAGS = os.environ.get("WISP_FLAGS", "").split()  # of every run, such as --no-seccomp with sanitizers
COMMAND = [WISP, *FLAGS]
LIMIT_S = 300  # generous: the slowest host is a software CPU that shares two cores

EXIT_OK, EXIT_GENERIC, EXIT_BAD_SYSCALL, EXIT_BAD_CONFIGURATION, EXIT_ARGUMENTS = 0, 1, 148, 152, 153


class TimedOut(AssertionError):
    """Something that was waited for did not come."""


def guest(name):
    return f"{GUESTS}/{name}"


def drive(path, *, id="rootfs", root=True, read_only=False, **more):
    return {"drive_id": id, "path_on_host": str(path), "is_root_device": root, "is_read_only": read_only, **more}


def machine(kernel, *, boot_args=None, initrd=None, vcpus=1, mem_mib=128, drives=(), **more):
    """A machine file as a dictionary; `more` adds top-level keys."""
    source = {"kernel_image_path": str(kernel)}
    if boot_args is not None:
        source["boot_args"] = boot_args
    if initrd:
        source["initrd_path"] = str(initrd)
    return {
        "boot-source": source,
        "machine-config": {"vcpu_count": vcpus, "mem_size_mib": mem_mib},
        "drives": list(drives),
        **more,
    }


LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+ \[[^\n]*\n")


def apart(output):
    """The lines of the log, then the guest's console: two threads write them, so a line of the log may stand in the middle of one of the
    console."""
    return "".join(LOG_LINE.findall(output)) + LOG_LINE.sub("", output)


class Result:
    def __init__(self, code, output, errors):
        self.code, self.output, self.errors = code, output, errors

    def __repr__(self):
        return f"exit code {self.code}\n--- output\n{self.output}\n--- errors\n{self.errors}"

    @property
    def guest_status(self):
        found = re.findall(r"Guest-exit-status = (\d+)", self.output)
        return int(found[-1]) if found else None


class Vm:
    """A running `wisp` whose output is collected as it comes."""

    def __init__(self, folder, config, *flags, stdin=subprocess.DEVNULL, wrapper=(), api_sock=None):
        self.file = f"{folder}/machine.json"
        with open(self.file, "w") as out:
            out.write(config if isinstance(config, str) else json.dumps(config))
        self.api_sock = api_sock
        api = ["--api-sock", api_sock] if api_sock else ["--no-api"]
        self.process = subprocess.Popen([*wrapper, WISP, *api, "--config-file", self.file, *FLAGS, *flags],
                                        stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._chunks = {"out": b"", "err": b""}
        self._grown = threading.Condition()
        self._readers = [threading.Thread(target=self._read, args=(name, pipe), daemon=True)
                         for name, pipe in (("out", self.process.stdout), ("err", self.process.stderr))]
        for reader in self._readers:
            reader.start()

    def _read(self, name, pipe):
        while data := os.read(pipe.fileno(), 65536):
            with self._grown:
                self._chunks[name] += data
                self._grown.notify_all()
        with self._grown:
            self._chunks[name + " ended"] = True
            self._grown.notify_all()

    @property
    def output(self):
        return apart(self._chunks["out"].decode(errors="replace"))

    def wait_for(self, pattern, limit_s=None):
        """Until the output matches; returns the match."""
        limit_s = limit_s or LIMIT_S
        deadline = time.monotonic() + limit_s
        with self._grown:
            while not (found := re.search(pattern, self.output)):
                assert "out ended" not in self._chunks, f"the output ended without {pattern!r}:\n{self.output}"
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimedOut(f"no {pattern!r} within {limit_s} s:\n{self.output}{standstill.report()}")
                self._grown.wait(left)
        return found

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def request(self, method, resource, body):
        """One request to the API that must be done."""
        status, text = self.ask(method, resource, body)
        assert status in (200, 204), text
        return text

    def ask(self, method, resource, body):
        """One request to the API: (status, body of the answer)."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(self.api_sock)
        try:
            connection.request(method, resource, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, limit_s=None):
        limit_s = limit_s or LIMIT_S
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            doing = standstill.report()
            self.process.kill()
            self.process.wait()
            raise TimedOut(f"wisp did not end within {limit_s} s:\n{self.output}{doing}") from None
        for reader in self._readers:
            reader.join(limit_s)
        return Result(code, self.output, self._chunks["err"].decode(errors="replace"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def run(folder, config, *flags, **options):
    with Vm(folder, config, *flags, **options) as vm:
        return vm.wait()


def copy_of(path, folder):
    target = f"{folder}/{os.path.basename(path)}"
    shutil.copyfile(path, target)
    return target


def wait_until(condition):
    """Until condition() is true."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.01)
