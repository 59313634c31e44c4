# SPDX-License-Identifier: Apache-2.0
"""virtio-vsock with a real guest: through the agent that the project's init starts when it is asked to."""
import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import resource
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import vsock_agent
import wisp

KERNEL = f"{wisp.BUILD}/kernel/vmlinux"
INITRD = f"{wisp.BUILD}/initrd.cpio.gz"
BOOT_ARGS = "console=ttyS0 reboot=k panic=1"
MIB = 1 << 20


def machine(tmp_path, args=f"{BOOT_ARGS} wisp.agent", **more):
    # The command keeps init from a shell on the console.
    return wisp.machine(KERNEL, boot_args=f"{args} -- /bin/sleep 100000", initrd=INITRD,
                        vsock={"guest_cid": 3, "uds_path": f"{tmp_path}/v"}, **more)


@contextlib.contextmanager
def guest(tmp_path, *flags, **more):
    """A guest whose agent listens; in the end it powers off, which must remove the socket."""
    with wisp.Vm(tmp_path, machine(tmp_path, **more), *flags) as vm:
        try:
            agent = vsock_agent.Agent(f"{tmp_path}/v").wait(wisp.LIMIT_S, vm)
        except TimeoutError as error:
            raise wisp.TimedOut(f"{error}\n{vm.output}") from None
        agent.vm = vm
        yield agent
        agent.start(["poweroff", "-f"]).turn(5)
        result = vm.wait()
        assert result.code == wisp.EXIT_OK, result
        assert not os.path.exists(f"{tmp_path}/v")


def test_commands_their_output_and_exit_status(tmp_path):
    with guest(tmp_path) as agent:
        result = agent.run(["uname", "-r"])
        assert result.status == 0 and b"6.1." in result.output and not result.errors
        assert agent.shell("exit 7").status == 7
        assert agent.shell("kill -9 $$").status == 128 + 9
        result = agent.run(["no-such-command"])
        assert result.status == 127 and b"no such file" in result.errors
        assert agent.run(["/etc/passwd"]).status == 126
        result = agent.shell("echo to output; echo to errors >&2")
        assert (bytes(result.output), bytes(result.errors)) == (b"to output\n", b"to errors\n")
        assert agent.run(["cat"], b"some input").output == b"some input"
        assert agent.run(["wc", "-c"], b"x" * 200000).output.strip() == b"200000"
        sleeping = agent.start(["sleep", "1000"])
        sleeping.turn()
        sleeping.signal(15)
        assert sleeping.wait().status == 128 + 15


def test_the_agent_is_started_only_if_asked_for(tmp_path):
    with wisp.Vm(tmp_path, machine(tmp_path, args=BOOT_ARGS), "--boot-timer") as vm:
        vm.wait_for("Guest-boot-time")
        # The guest answers, so its driver is up: no program listens on that port.
        with pytest.raises(vsock_agent.Refused):
            vsock_agent.connect(f"{tmp_path}/v", vsock_agent.PORT, wisp.LIMIT_S)


def test_another_port(tmp_path):
    with wisp.Vm(tmp_path, machine(tmp_path, args=f"{BOOT_ARGS} wisp.agent=77")):
        assert vsock_agent.Agent(f"{tmp_path}/v", 77).wait(wisp.LIMIT_S).run(["echo", "hi"]).output == b"hi\n"


@pytest.mark.parametrize("vcpus", [1, 2])
def test_20_mb_both_ways_arrive_as_they_were_sent(tmp_path, vcpus):
    data = os.urandom(20 * MIB)
    digest = hashlib.sha256(data).hexdigest().encode()
    with guest(tmp_path, vcpus=vcpus) as agent:
        assert agent.run(["sha256sum"], data).output.split()[0] == digest  # to the guest
        assert agent.run(["cat"], data).output == data  # both at the same time


def test_half_close_of_the_host_is_the_end_of_input(tmp_path):
    with guest(tmp_path) as agent:
        command = agent.start(["sh", "-c", "wc -c; echo still here"])
        command.feed(b"12345")
        while command._out:
            command.turn(1)
        command.stream.shutdown(socket.SHUT_WR)
        result = command.wait()
        assert result.output.split() == [b"5", b"still", b"here"] and result.status == 0


@contextlib.contextmanager
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_agent_takes_dials_faster_than_it_can_start_commands(tmp_path):
    with guest(tmp_path, mem_mib=256) as agent:
        for _ in range(30):
            for each in [vsock_agent.connect(agent.uds_path, agent.port, wisp.LIMIT_S) for _ in range(20)]:
                each.close()
        assert agent.run(["echo", "still here"]).output == b"still here\n"


def test_the_agent_takes_a_thousand_dials_at_once(tmp_path):
    """All are open before the first command is sent, and the last one is served first: none holds up another."""
    with many_descriptors(), guest(tmp_path, mem_mib=256) as agent:
        streams = [vsock_agent.connect(agent.uds_path, agent.port, wisp.LIMIT_S) for _ in range(1000)]
        for number, stream in reversed(list(enumerate(streams))):
            if number % 10:
                stream.close()
                continue
            command = vsock_agent.Command(stream, ["echo", str(number)])
            assert command.wait(wisp.LIMIT_S).output == f"{number}\n".encode()


def runs(agent, command):
    return command.encode() in agent.run(["ps", "-o", "args"]).output.splitlines()


def test_a_host_program_that_goes_away_takes_its_command_with_it(tmp_path):
    with guest(tmp_path) as agent:
        command = agent.start(["sleep", "12345"])
        while command._out:
            command.turn(1)
        deadline = time.monotonic() + wisp.LIMIT_S
        while not runs(agent, "sleep 12345"):
            assert time.monotonic() < deadline
        command.stream.close()
        while runs(agent, "sleep 12345"):
            assert time.monotonic() < deadline


def test_many_connections_at_once(tmp_path):
    with guest(tmp_path, mem_mib=512) as agent:
        commands = [agent.start(["cat"]) for _ in range(100)]
        inputs = [os.urandom(1 + 331 * i) for i in range(len(commands))]
        for command, data in zip(commands, inputs):
            command.feed(data)
        for command, data in zip(commands, inputs):
            deadline = time.monotonic() + wisp.LIMIT_S
            while len(command.output) < len(data):
                command.turn(1)
                assert time.monotonic() < deadline
        for command, data in reversed(list(zip(commands, inputs))):
            command.end_input()
            assert command.wait(wisp.LIMIT_S).status == 0 and command.output == data


class Listener:
    """A port of the host, as the guest sees it."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(path)
        self.socket.listen(16)
        self.socket.settimeout(wisp.LIMIT_S)


def test_the_guest_connects_to_the_host(tmp_path):
    listener = Listener(f"{tmp_path}/v_5001").socket
    with guest(tmp_path) as agent:
        client = agent.start(["vsock-connect", "5001"])
        client.feed(b"from the guest")
        client.turn(1)
        stream, _ = listener.accept()
        stream.settimeout(wisp.LIMIT_S)
        got = b""
        while len(got) < 14:
            client.turn(0)
            got += stream.recv(100)
        assert got == b"from the guest"
        stream.sendall(b"from the host")
        stream.shutdown(socket.SHUT_WR)
        client.end_input()
        assert client.wait().output == b"from the host"
        assert stream.recv(1) == b""
        result = agent.run(["vsock-connect", "5002"])  # no host program listens there
        assert result.status == 1 and b"cannot connect" in result.errors


def api(path, method, resource, body):
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(path)
    connection.request(method, resource, json.dumps(body))
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 204, text
    connection.close()


# ---- many streams, against a program in the guest that sends back what comes ----

ECHO_PORT = 700
CONNECTS = 2000  # 10,000 of them are a unit test: each takes 10 ms or more in the lab


@pytest.fixture
def seed():
    chosen = int(os.environ.get("SEED") or random.randrange(1 << 32))
    print(f"SEED={chosen}")
    return random.Random(chosen)


@contextlib.contextmanager
def echo_guest(tmp_path):
    with guest(tmp_path, mem_mib=512) as agent:
        probe = open(f"{wisp.BUILD}/tests/net_probe", "rb").read()
        assert agent.shell("cat > /tmp/probe && chmod +x /tmp/probe", probe).status == 0
        agent.echo = agent.start(["/tmp/probe", "vsock-echo", str(ECHO_PORT)])
        deadline = time.monotonic() + wisp.LIMIT_S
        while b"echo is ready" not in agent.echo.output:
            agent.echo.turn(1)
            assert time.monotonic() < deadline
        yield agent


def descriptors(vm):
    return len(os.listdir(f"/proc/{vm.process.pid}/fd"))


def only_the_agent_is_left(vm, before):
    """Ends are confirmed by the guest, so the last ones take a moment."""
    deadline = time.monotonic() + wisp.LIMIT_S
    while descriptors(vm) > before:
        assert time.monotonic() < deadline, f"{descriptors(vm)} descriptors, {before} before"
        time.sleep(0.05)


class EchoStream:
    """Sends data, keeps the sum of what comes back."""

    def __init__(self, stream, data):
        data = b"." + data[1:]  # an X would be an end
        self.stream, self.left, self.size = stream, memoryview(data), len(data)
        self.sum, self.back, self.got = hashlib.md5(data).digest(), hashlib.md5(), 0
        stream.setblocking(False)

    def turn(self, writable, readable):
        if writable and self.left:
            self.left = self.left[self.stream.send(self.left):]
        if readable:
            data = self.stream.recv(1 << 16)
            assert data, f"the stream ended after {self.got} of {self.size} bytes"
            self.got += len(data)
            self.back.update(data)
        return self.got < self.size


def exchange(streams):
    """Until all have back what they sent."""
    with selectors.DefaultSelector() as selector:
        for each in streams:
            selector.register(each.stream, selectors.EVENT_READ | selectors.EVENT_WRITE, each)
        under_way = len(streams)
        while under_way:
            ready = selector.select(wisp.LIMIT_S)
            assert ready, f"{under_way} streams make no progress"
            for key, events in ready:
                if not key.data.turn(events & selectors.EVENT_WRITE, events & selectors.EVENT_READ):
                    selector.unregister(key.fileobj)
                    under_way -= 1
                elif not key.data.left:
                    selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
    for each in streams:
        assert each.back.digest() == each.sum


def test_a_thousand_connections_at_once(tmp_path, seed):
    with many_descriptors(), echo_guest(tmp_path) as agent:
        before = descriptors(agent.vm)
        streams = [EchoStream(vsock_agent.connect(agent.uds_path, ECHO_PORT, wisp.LIMIT_S), seed.randbytes(1 + seed.randrange(8000)))
                   for _ in range(1000)]
        assert descriptors(agent.vm) >= before + 1000
        exchange(streams)
        seed.shuffle(streams)
        for each in streams:
            if seed.randrange(2):
                each.stream.shutdown(socket.SHUT_WR)
            each.stream.close()
        only_the_agent_is_left(agent.vm, before)


def test_random_sizes_come_back_as_they_were(tmp_path, seed):
    sizes = [1, 2, 4095, 4096, 4097, 65535, 65536, 65537, *(1 + seed.randrange(600000) for _ in range(8))]
    with echo_guest(tmp_path) as agent:
        exchange([EchoStream(vsock_agent.connect(agent.uds_path, ECHO_PORT), seed.randbytes(size)) for size in sizes])


def take_all(stream):
    data = bytearray()
    while part := stream.recv(1 << 16):
        data += part
    return data


def test_every_order_of_closing(tmp_path):
    big = os.urandom(3 * MIB)
    with echo_guest(tmp_path) as agent:
        before = descriptors(agent.vm)

        def stream():
            return vsock_agent.connect(agent.uds_path, ECHO_PORT, wisp.LIMIT_S)

        one = stream()  # nothing was ever sent
        one.close()
        one = stream()  # the host's half first: what was sent still comes back, then the end
        one.sendall(b"last words")
        one.shutdown(socket.SHUT_WR)
        assert take_all(one) == b"last words"
        one = stream()  # the guest first
        one.sendall(b"X")
        assert take_all(one) == b""
        one = stream()  # the guest first, and has not read all
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            one.sendall(b"X" + big)
        with contextlib.suppress(ConnectionResetError):
            assert take_all(one) == b""
        one = stream()  # both at once
        one.sendall(b"X")
        one.shutdown(socket.SHUT_RDWR)
        one.close()
        one = stream()  # the host listens no more, and sends on
        one.shutdown(socket.SHUT_RD)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            one.sendall(big)
        one.close()
        one = stream()  # the host has not read what comes back
        one.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            one.sendall(big)
        one.close()
        only_the_agent_is_left(agent.vm, before)
        exchange([EchoStream(stream(), b"still there")])


def test_a_peer_that_vanishes(tmp_path):
    with echo_guest(tmp_path) as agent:
        before = descriptors(agent.vm)
        script = (f"import sys; sys.path.insert(0, {os.path.dirname(vsock_agent.__file__)!r}); import vsock_agent\n"
                  f"s = vsock_agent.connect({agent.uds_path!r}, {ECHO_PORT}, 100)\n"
                  "print('connected', flush=True)\nwhile True: s.send(bytes(1000)); s.recv(10)")
        host = subprocess.Popen([sys.executable, "-B", "-c", script], stdout=subprocess.PIPE)
        assert host.stdout.readline() == b"connected\n"
        host.send_signal(signal.SIGKILL)
        host.wait()
        only_the_agent_is_left(agent.vm, before)
        one = vsock_agent.connect(agent.uds_path, ECHO_PORT, wisp.LIMIT_S)
        one.sendall(b"are you there?")
        assert one.recv(100) == b"are you there?"
        agent.echo.signal(signal.SIGKILL)
        agent.echo.turn()
        with contextlib.suppress(ConnectionResetError):
            assert take_all(one) == b""
        with pytest.raises(vsock_agent.Refused):
            vsock_agent.connect(agent.uds_path, ECHO_PORT, wisp.LIMIT_S)


def test_connects_in_a_row_leave_no_descriptor(tmp_path):
    """Half of them from the host, half from the guest."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(f"{tmp_path}/v_5003")
    listener.listen(16)

    def serve():
        while True:
            stream, _ = listener.accept()
            stream.sendall(b"12345")
            stream.close()

    threading.Thread(target=serve, daemon=True).start()
    with echo_guest(tmp_path) as agent:
        before = descriptors(agent.vm)
        for _ in range(CONNECTS // 2):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                stream.connect(agent.uds_path)
                stream.send(b"CONNECT %d\n" % ECHO_PORT)
                assert stream.recv(64).startswith(b"OK ")
        result = agent.run(["/tmp/probe", "vsock-connect", "5003", str(CONNECTS // 2)])
        assert result.output == f"{CONNECTS // 2} connections brought {CONNECTS // 2 * 5} bytes\n".encode(), result.errors
        only_the_agent_is_left(agent.vm, before)


def test_pause_and_resume_in_the_middle_of_a_transfer(tmp_path):
    data = os.urandom(20 * MIB)
    config = f"{tmp_path}/machine.json"
    with open(config, "w") as out:
        json.dump(machine(tmp_path), out)
    process = subprocess.Popen([wisp.WISP, "--api-sock", f"{tmp_path}/api", "--config-file", config],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        try:
            agent = vsock_agent.Agent(f"{tmp_path}/v").wait(wisp.LIMIT_S)
        except TimeoutError as error:
            raise wisp.TimedOut(str(error)) from None
        command = agent.start(["cat"])
        command.feed(data)
        command.end_input()
        for part in (1, 2, 3):
            while len(command.output) < part * len(data) // 5:
                assert command.turn(wisp.LIMIT_S)
            api(f"{tmp_path}/api", "PATCH", "/vm", {"state": "Paused"})
            for _ in range(20):  # what was under way comes; nothing new does
                command.turn(0.02)
            before = len(command.output)
            command.turn(0.2)
            assert len(command.output) == before
            api(f"{tmp_path}/api", "PATCH", "/vm", {"state": "Resumed"})
        assert command.wait(wisp.LIMIT_S).output == data
    finally:
        process.kill()
        process.wait()


def test_the_command_for_people(tmp_path):
    with guest(tmp_path) as agent:
        run = subprocess.run([f"{wisp.PROJECT}/demo/vsock-exec", agent.uds_path, "sh", "-c", "cat; echo err >&2; exit 3"],
                             input=b"typed", capture_output=True, timeout=wisp.LIMIT_S)
        assert (run.returncode, run.stdout, run.stderr) == (3, b"typed", b"err\n")


def test_a_path_that_is_taken_is_a_bad_configuration(tmp_path):
    (tmp_path / "v").touch()
    result = wisp.run(tmp_path, machine(tmp_path))
    assert result.code == wisp.EXIT_BAD_CONFIGURATION
    assert re.search(r"vsock: uds_path: cannot bind to .*/v, which is there already .*: Address already in use", result.errors)
    assert (tmp_path / "v").exists(), "the file belongs to another process"
