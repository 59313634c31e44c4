# SPDX-License-Identifier: Apache-2.0
"""A monitor that a test drives through its API."""
import json
import os
import signal
import socket
import subprocess
import threading

import wisp


class Refused(AssertionError):
    """The API answered with an error; str() is the fault message."""


class ApiVm:
    """`wisp --api-sock …`, its output collected as it comes."""

    def __init__(self, folder, *flags, program=None, stdin=subprocess.DEVNULL):
        self.sock = f"{folder}/api.sock"
        self.folder = folder
        self.process = subprocess.Popen([*([program] if program else wisp.COMMAND), "--api-sock", self.sock, *flags], stdin=stdin,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._text = b""
        self._grown = threading.Condition()
        self._ended = False
        threading.Thread(target=self._read, daemon=True).start()
        self.client = None
        self.wait_for("API server started")
        self.connect()

    def connect(self):
        self.client = socket.socket(socket.AF_UNIX)
        self.client.settimeout(wisp.LIMIT_S)
        self.client.connect(self.sock)
        self._rest = b""

    def _read(self):
        while data := self.process.stdout.read1(65536):
            with self._grown:
                self._text += data
                self._grown.notify_all()
        with self._grown:
            self._ended = True
            self._grown.notify_all()

    @property
    def output(self):
        return self._text.decode(errors="replace")

    @property
    def console(self):
        """What the guest wrote: a line of the log may stand anywhere in it."""
        return wisp.LOG_LINE.sub("", self.output)

    def wait_for(self, text, count=1):
        """Until the output, or the guest's part of it, has `text` so often."""
        has = lambda: max(self.output.count(text), self.console.count(text)) >= count
        with self._grown:
            come = self._grown.wait_for(lambda: has() or self._ended, wisp.LIMIT_S)
            assert come and has(), f"no {text!r}:\n{self.output}"

    def request(self, method, path, body=None):
        """(status, body)"""
        data = b"" if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.client.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        while b"\r\n\r\n" not in self._rest:
            self._receive()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        size = next((int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")), 0)
        while len(self._rest) < size:
            self._receive()
        answer, self._rest = self._rest[:size].decode(), self._rest[size:]
        return int(lines[0].split(" ")[1]), answer

    def _receive(self):
        data = self.client.recv(65536)
        assert data, f"the connection ended:\n{self.output}"
        self._rest += data

    def _succeed(self, method, path, body=None):
        status, answer = self.request(method, path, body)
        if status >= 400:
            raise Refused(json.loads(answer)["fault_message"])
        return answer

    def get(self, path):
        return self._succeed("GET", path)

    def put(self, path, body):
        return self._succeed("PUT", path, body)

    def patch(self, path, body):
        return self._succeed("PATCH", path, body)

    def act(self, action):
        self.put("/actions", {"action_type": action})

    def configure(self, kernel, *, drives=(), vcpus=1, mem_mib=128, boot_args=None):
        self.put("/boot-source", {"kernel_image_path": str(kernel), **({"boot_args": boot_args} if boot_args else {})})
        self.put("/machine-config", {"vcpu_count": vcpus, "mem_size_mib": mem_mib})
        for drive in drives:
            self.put(f"/drives/{drive['drive_id']}", drive)

    def end(self, number=signal.SIGTERM):
        """Ends it in order; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(wisp.LIMIT_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.client:
            self.client.close()
        if os.path.exists(self.sock):
            os.remove(self.sock)
