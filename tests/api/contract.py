# SPDX-License-Identifier: Apache-2.0
"""Replays tests/api/contract.txt on a monitor: requests, and the answers Firecracker gave to them.

The file has sessions, each with a fresh monitor:

    === name of the session
    PUT /machine-config {"vcpu_count":1}
    < 400 missing field `mem_size_mib` ...        what Firecracker answers
    wisp< 400 ...                                 only where Wisp means to answer something else

An answer is the status, `deprecated` if the answer has that header, and the fault message or the body.
In requests and answers {tmp} is a folder of the session's own, in which `disk` is a file of 1 MiB and `guest` a kernel that
halts for ever.
"""

import json
import os
import re
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

CONTRACT = Path(__file__).with_name("contract.txt")


class Client:
    """A plain HTTP client that shows what really came over the socket."""

    def __init__(self, path, timeout_s=120):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout_s)
        self.socket.connect(path)
        self.rest = b""

    def send(self, data):
        self.socket.sendall(data)

    def close(self):
        self.socket.close()

    def _receive(self):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError("the server closed the connection")
        self.rest += data

    def read(self):
        """One answer: (status, head lines, body)."""
        while b"\r\n\r\n" not in self.rest:
            self._receive()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        length = next((int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")), 0)
        while len(self.rest) < length:
            self._receive()
        body, self.rest = self.rest[:length], self.rest[length:]
        return int(lines[0].split(" ")[1]), lines, body.decode()

    def request(self, method, path, body=None):
        data = body.encode() if isinstance(body, str) else body
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
        if data is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        self.send(head.encode() + b"\r\n" + (data or b""))
        return self.read()


def tiny_guest():
    """An ELF kernel that halts for ever."""
    code = bytes([0xF4, 0xEB, 0xFD])  # again: hlt; jmp again
    entry = 0x100000
    header = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 4096, entry, entry, len(code), len(code), 4096)
    return (header + segment).ljust(4096, b"\0") + code


class Monitor:
    """A monitor that waits for a client: wisp, the API's test server, or firecracker."""

    def __init__(self, program, *arguments):
        self.folder = tempfile.TemporaryDirectory(prefix="wisp-api-")
        self.tmp = self.folder.name
        with open(self.tmp + "/disk", "wb") as disk:
            disk.truncate(1 << 20)
        with open(self.tmp + "/guest", "wb") as guest:
            guest.write(tiny_guest())
        self.api_sock = self.tmp + "/api.sock"
        self.log = open(self.tmp + "/log", "w+b")
        self.process = subprocess.Popen([os.path.abspath(program), "--api-sock", self.api_sock, *arguments], cwd=self.tmp,
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 120
        while True:
            try:
                self.client = Client(self.api_sock)
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError("the monitor did not start: " + Path(self.tmp + "/log").read_text()) from None
                time.sleep(0.005)

    def log_text(self):
        return Path(self.tmp + "/log").read_text()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.folder.cleanup()


class Exchange:
    def __init__(self, request):
        self.request = request
        self.firecracker = None
        self.wisp = None

    def expected(self, of):
        return self.wisp if of == "wisp" and self.wisp is not None else self.firecracker


def load():
    """[(name, arguments, [Exchange])]"""
    sessions = []
    for line in CONTRACT.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("=== "):
            name, _, arguments = line[4:].partition(" -- ")
            sessions.append((name, arguments.split(), []))
        elif line.startswith("< "):
            sessions[-1][2][-1].firecracker = line[2:]
        elif line.startswith("wisp< "):
            sessions[-1][2][-1].wisp = line[6:]
        else:
            sessions[-1][2].append(Exchange(line))
    return sessions


def answer_text(status, lines, body, tmp):
    """An answer as the contract writes it."""
    text = body
    if status >= 400:
        try:
            text = json.loads(body)["fault_message"]
        except (ValueError, KeyError):
            text = body.replace("\n", "\\n")
    text = re.sub(r'"(vmm_version|firecracker_version)":"[^"]*"', r'"\1":"VERSION"', text)
    text = re.sub(r',"wisp_version":"[^"]*"', "", text)
    deprecated = ["deprecated"] if "Deprecation: true" in lines else []
    return " ".join([str(status), *deprecated, *([text] if text else [])]).replace(tmp, "{tmp}")


def perform(monitor, request):
    """Sends one request of the contract, returns its answer as the contract writes it."""
    method, path, *body = request.replace("{tmp}", monitor.tmp).split(" ", 2)
    return answer_text(*monitor.client.request(method, path, body[0] if body else None), monitor.tmp)
