# SPDX-License-Identifier: Apache-2.0
"""The host's end of a slot: runs one command in L1. l1/agent.cc describes the wire."""

import contextlib
import os
import select
import signal
import socket
import time

from common import EXIT_TIMEOUT, LabError

MAX_PAYLOAD = 64 * 1024
INPUT_WINDOW = 256 * 1024  # agent.cc's kInputWindow
# QEMU's CPU thread and its timers can both write the CPU's pending interrupts at once, and one is then not seen before the next:
# where it was the timer's, L1 sleeps for good. A byte that the agent skips is such a next one. (Two busy L1s stood still within two minutes.)
NUDGE_S = 0.2
GRACE_S = 2  # a Ctrl-C is passed on to the command; after this long, or at the second, the command is killed


class Interrupted(Exception):
    def __init__(self, number):
        super().__init__(number)
        self.number = number


class Disconnected(Exception):
    """L1 is gone."""


class NotUp(Exception):
    """L1 did not answer in time."""


def frame(kind, payload=b""):
    if len(payload) > MAX_PAYLOAD:
        raise LabError(f"an argument or variable of {len(payload)} bytes is too long: the lab passes up to {MAX_PAYLOAD}")
    return kind + len(payload).to_bytes(4, "little") + payload


class Session:
    def __init__(self, connection, boot_timeout_s, nudge=True):
        """nudge: not where L1's instructions are counted."""
        self.connection, self.received, self.nudge_s = connection, b"", NUDGE_S if nudge else float("inf")
        self.timed_out = False
        connection.setblocking(False)
        self.outgoing = bytearray()
        self.handshake(boot_timeout_s)

    def handshake(self, boot_timeout_s):
        """Waits until L1 is up and the slot is ours alone."""
        token = os.urandom(16)
        self.outgoing += bytes(MAX_PAYLOAD + 8) + frame(b"T", token)
        answer = frame(b"T", token)
        deadline = time.monotonic() + boot_timeout_s
        while answer not in self.received:
            self.received = self.received[-len(answer):]  # what the client before did not take
            if not self.exchange(deadline):
                raise NotUp
        self.received = self.received.partition(answer)[2]

    def exchange(self, deadline, more_fds=()):
        """Waits for something to do, does it for the connection, and returns what poll() said; nothing at the deadline."""
        poll = select.poll()
        poll.register(self.connection, select.POLLIN | (select.POLLOUT if self.outgoing else 0))
        for fd in more_fds:
            poll.register(fd, select.POLLIN)
        ready = self.wait(poll, deadline)
        events = ready.get(self.connection.fileno(), 0)
        try:
            if events & select.POLLOUT:
                del self.outgoing[:self.connection.send(memoryview(self.outgoing)[:MAX_PAYLOAD])]
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                data = self.connection.recv(256 * 1024)
                if not data:
                    raise Disconnected
                self.received += data
        except (BlockingIOError, InterruptedError):
            pass
        except (BrokenPipeError, ConnectionResetError):
            raise Disconnected from None
        return ready

    def wait(self, poll, deadline):
        while True:
            left_s = float("inf") if deadline is None else max(0, deadline - time.monotonic())
            wait_s = min(left_s, self.nudge_s)
            ready = dict(poll.poll(None if wait_s == float("inf") else wait_s * 1000))
            if ready or wait_s == left_s:
                return ready
            if not self.outgoing:  # which is a nudge itself
                with contextlib.suppress(BlockingIOError, InterruptedError, BrokenPipeError, ConnectionResetError):
                    self.connection.send(b"\0")

    def frames(self):
        """The complete frames received so far."""
        at = 0
        while len(self.received) - at >= 5:
            end = at + 5 + int.from_bytes(self.received[at + 1:at + 5], "little")
            if len(self.received) < end:
                break
            yield self.received[at:at + 1], self.received[at + 5:end]
            at = end
        self.received = self.received[at:]

    def run(self, command, cwd, env, stage, timeout_s):
        """Runs the command and returns its exit code. Standard input, output and error are this process's own."""
        self.outgoing += frame(b"C", os.fsencode(cwd))
        for kind, values in ((b"V", [f"{k}={v}" for k, v in env.items()]), (b"S", stage), (b"A", command)):
            for value in values:
                self.outgoing += frame(kind, os.fsencode(value))
        self.outgoing += frame(b"G")
        deadline = time.monotonic() + timeout_s if timeout_s else None
        interrupt = Interrupt(self)
        wake = interrupt.wake.fileno()
        stdin_open, window = True, INPUT_WINDOW
        while True:
            stdin = [0] if stdin_open and window and len(self.outgoing) < MAX_PAYLOAD else []
            ready = self.exchange(interrupt.sooner(deadline), [wake, *stdin])
            if ready.get(wake):
                interrupt.wake.recv(64)
                continue
            if ready.get(0):
                data = os.read(0, min(window, MAX_PAYLOAD))
                stdin_open = bool(data)
                window -= len(data)
                self.outgoing += frame(b"I", data)
            for kind, payload in self.frames():
                if kind == b"X":
                    return payload[0]
                if kind == b"R":
                    window += int.from_bytes(payload, "little")
                else:
                    write_all(1 if kind == b"O" else 2, payload)
            if not ready:
                interrupt.raise_if_over()
                self.timed_out = True
                return EXIT_TIMEOUT


class Interrupt:
    """The first SIGINT goes to the command, which may have something to say; it has GRACE_S to end."""

    def __init__(self, session):
        self.session, self.deadline = session, None
        # A handler alone would not end poll(), which Python restarts; a byte on this socket does.
        self.wake, self.write_end = socket.socketpair()
        self.write_end.setblocking(False)
        signal.set_wakeup_fd(self.write_end.fileno())
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, self.on_signal)

    def on_signal(self, number, _):
        if self.deadline is not None:
            raise Interrupted(number)
        self.deadline = time.monotonic() + GRACE_S
        self.session.outgoing += frame(b"K", bytes([number]))

    def sooner(self, deadline):
        return min((d for d in (deadline, self.deadline) if d is not None), default=None)

    def raise_if_over(self):
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise Interrupted(signal.SIGINT)


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]
