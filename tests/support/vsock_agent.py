# SPDX-License-Identifier: Apache-2.0
"""Client of the guest's agent (kernel-config/README.md): runs commands in a guest over its vsock device.

    agent = vsock_agent.Agent("/tmp/v.sock")
    result = agent.run(["uname", "-r"])         # .status, .output, .errors
"""
import select
import socket
import struct
import time

import standstill

PORT = 1024
RUN, INPUT, SIGNAL, OUTPUT, ERROR, EXIT = 1, 2, 3, 17, 18, 19
MAX_PAYLOAD = 65536


class Refused(ConnectionError):
    """The guest does not listen on that port (yet)."""


def connect(uds_path, port, limit_s=10):
    """A stream to a port of the guest. Refused where the guest does not take it."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.settimeout(limit_s)
    try:
        stream.connect(uds_path)
        stream.sendall(f"CONNECT {port}\n".encode())
        line = stream.recv(64, socket.MSG_PEEK)  # it comes as a whole
        if not line:
            raise Refused(f"port {port} of the guest")
        line = stream.recv(line.index(b"\n") + 1)
    except (ConnectionResetError, BrokenPipeError):
        stream.close()
        raise Refused(f"port {port} of the guest") from None
    except BaseException:
        stream.close()
        raise
    assert line.startswith(b"OK "), line
    return stream


def frame(kind, payload=b""):
    return struct.pack("<BxxxI", kind, len(payload)) + payload


class Command:
    """A command that runs. Its input is sent while its output is taken: neither waits for the other."""

    def __init__(self, stream, words):
        self.stream, self.status = stream, None
        self.output, self.errors = bytearray(), bytearray()
        self._in, self._out = bytearray(), bytearray(frame(RUN, b"".join(word.encode() + b"\0" for word in words)))

    def feed(self, data):
        for at in range(0, len(data), MAX_PAYLOAD):
            self._out += frame(INPUT, data[at:at + MAX_PAYLOAD])

    def end_input(self):
        self._out += frame(INPUT)

    def signal(self, number):
        self._out += frame(SIGNAL, bytes([number]))

    def fileno(self):
        return self.stream.fileno()

    def turn(self, timeout_s=0.0):
        """Sends and takes what can be. False once the command has ended."""
        self.stream.setblocking(False)
        readable, writable, _ = select.select([self], [self] if self._out else [], [], timeout_s)
        if writable:
            del self._out[:self.stream.send(memoryview(self._out)[:1 << 18])]
        if readable:
            data = self.stream.recv(1 << 18)
            if not data:
                raise ConnectionError(f"the agent went away: {bytes(self.errors)!r}")
            self._in += data
            self._take_frames()
        return self.status is None

    def _take_frames(self):
        at = 0
        while len(self._in) - at >= 8:
            kind, length = struct.unpack_from("<BxxxI", self._in, at)
            if len(self._in) - at < 8 + length:
                break
            payload = self._in[at + 8:at + 8 + length]
            at += 8 + length
            if kind == OUTPUT:
                self.output += payload
            elif kind == ERROR:
                self.errors += payload
            elif kind == EXIT:
                self.status = struct.unpack("<I", payload)[0]
        del self._in[:at]

    def wait(self, limit_s=120):
        deadline = time.monotonic() + limit_s
        while self.turn(1.0):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the command did not end within {limit_s} s: {bytes(self.output[-200:])!r}{standstill.report()}")
        self.stream.close()
        return self


class Agent:
    def __init__(self, uds_path, port=PORT):
        self.uds_path, self.port = uds_path, port

    def wait(self, limit_s=120, vm=None):
        """Until the guest is up and its agent listens. With `vm` (a wisp.Vm), a VM that ends first is no reason to wait on."""
        deadline = time.monotonic() + limit_s
        while True:
            try:
                connect(self.uds_path, self.port, limit_s).close()
                return self
            except (Refused, FileNotFoundError, ConnectionRefusedError, TimeoutError):
                if vm and vm.process.poll() is not None:
                    raise ConnectionError(f"the VM ended before its agent listened:\n{vm.wait()}") from None
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no agent within {limit_s} s{standstill.report()}") from None
                time.sleep(0.05)

    def start(self, words):
        return Command(connect(self.uds_path, self.port), words)

    def run(self, words, data=b"", limit_s=120):
        command = self.start(words)
        command.feed(data)
        command.end_input()
        return command.wait(limit_s)

    def shell(self, script, data=b"", limit_s=120):
        return self.run(["/bin/sh", "-c", script], data, limit_s)
