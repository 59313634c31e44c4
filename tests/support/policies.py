# SPDX-License-Identifier: Apache-2.0
"""Runs wisp under tests/support/call_recorder, in every way that its system call policies have a rule for.

`needed(folder)` gives {"setup"|"loop"|"control"|"vcpu"|"drive": {rule}}; `rules()` all there are. Both the test and `make bench BENCH=jail` count
by them.
"""
import json
import os
import pty
import signal
import socket
import stat
import subprocess
import time

import net
import wisp

RECORDER = f"{wisp.BUILD}/tests/call-recorder"
THREADS = {"setup": ("common", "loop", "control", "vcpu", "drive", "setup"), "loop": ("common", "loop"), "control": ("common", "control"),
           "vcpu": ("common", "vcpu"), "drive": ("common", "drive")}


def rules():
    """{rule: (call, reason)}"""
    listed = subprocess.run([RECORDER, "--rules"], check=True, capture_output=True, text=True).stdout
    return {rule: (call, reason) for rule, call, reason in (line.split("\t") for line in listed.splitlines())}


def calls_of(threads):
    """Names of the calls that threads of this kind may make."""
    return {call for rule, (call, _) in rules().items() if rule.split(".")[0] in THREADS[threads]}


class Recording:
    """One run's recording; adds what it saw to `seen` ({threads: {rule}}) when it is read."""

    def __init__(self, folder, *deny):
        self.path = f"{folder}/recorded"
        if os.path.exists(self.path):
            os.remove(self.path)
        self.wrapper = [RECORDER, *(word for call in deny for word in ("--deny", call)), self.path, "--"]

    def read_into(self, seen):
        deadline = time.monotonic() + wisp.LIMIT_S
        while not os.path.exists(self.path):  # the tracer outlives what it traces by a moment
            assert time.monotonic() < deadline, "the call recorder left nothing"
            time.sleep(0.01)
        for line in open(self.path):
            threads, rule = line.rstrip("\n").split("\t")
            assert not rule.startswith("-"), f"{threads} made a call that no rule allows: {rule[1:]}"
            seen.setdefault(threads, set()).add(rule)


def disk(folder, name="disk"):
    path = f"{folder}/{name}"
    with open(path, "wb") as out:
        out.truncate(4 << 20)
    return path


def drive_in_every_way(folder, seen, **drive):
    config = wisp.machine(wisp.guest("drive_user"), drives=[wisp.drive(disk(folder), root=False, cache_type="Writeback", **drive)])
    recording = Recording(folder, *(["io_uring_setup"] if drive.get("io_engine") == "Sync" else []))
    with wisp.Vm(folder, config, stdin=subprocess.PIPE, wrapper=recording.wrapper) as vm:
        vm.wait_for("errors=0")
        vm.send("q")
        result = vm.wait()
    assert result.code == wisp.EXIT_OK and result.output.count("errors=0") == 2, result
    recording.read_into(seen)


def keyboard(folder, seen):
    """A guest that asks its keyboard controller, which answers with interrupts."""
    recording = Recording(folder)
    with wisp.Vm(folder, wisp.machine(wisp.guest("keyboard")), "--boot-timer", wrapper=recording.wrapper) as vm:
        vm.wait_for("Guest-boot-time")
        vm.signal(signal.SIGTERM)
        vm.wait()
    recording.read_into(seen)


def ends(folder, seen):
    """The ways to end, other than by reset; two vCPUs, so that one is elsewhere when it does."""
    for guest, code in (("poweroff", 0), ("triple_fault", 1), ("pit", 0), ("status", 0)):
        recording = Recording(folder)
        result = wisp.run(folder, wisp.machine(wisp.guest(guest), vcpus=2), "--boot-timer", "--timeline", wrapper=recording.wrapper)
        assert result.code == code, result
        recording.read_into(seen)
    recording = Recording(folder)
    result = wisp.run(folder, wisp.machine(wisp.guest("reset")), wrapper=["prlimit", "--nofile=32:", *recording.wrapper])
    assert result.code == 0, result
    recording.read_into(seen)
    recording = Recording(folder)
    result = wisp.run(folder, wisp.machine(disk(folder, "no kernel")), wrapper=recording.wrapper)
    assert result.code == wisp.EXIT_BAD_CONFIGURATION, result
    recording.read_into(seen)
    for number in (signal.SIGTERM, signal.SIGINT):
        recording = Recording(folder)
        with wisp.Vm(folder, wisp.machine(wisp.guest("first")), "--boot-timer", wrapper=recording.wrapper) as vm:
            vm.wait_for("Guest-boot-time")
            vm.signal(number)
            assert vm.wait().code == -number
        recording.read_into(seen)


def on_a_terminal(folder, seen):
    """As a shell's foreground job."""
    recording = Recording(folder)
    path = f"{folder}/terminal.json"
    with open(path, "w") as out:
        json.dump(wisp.machine(wisp.guest("serial")), out)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(recording.wrapper[0], [*recording.wrapper, *wisp.COMMAND, "--no-api", "--config-file", path])
    text = b""
    while b"hello from ring 0" not in text:
        text += os.read(terminal, 4096)
    os.write(terminal, b"q")
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:  # the last one has closed it
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == wisp.EXIT_OK
    os.close(terminal)
    recording.read_into(seen)


def vsock_in_every_way(folder, seen):
    """The bench guest and its host program, which move data, exchange bytes, and connect many times."""
    bench = f"{os.path.dirname(wisp.GUESTS)}/bench"
    for work, size in (("send", 65536), ("receive", 4096), ("echo", 1), ("accept", 1)):
        recording = Recording(folder)
        config = wisp.machine(f"{bench}/vsock_guest", boot_args=f"work={work} size={size} ms=20 tsc_khz=1000000",
                              vsock={"guest_cid": 3, "uds_path": f"{folder}/vsock"})
        with subprocess.Popen([f"{bench}/vsock_peer", "guest", f"{folder}/vsock", work, str(size), "20"],
                              stdout=subprocess.PIPE, text=True) as peer:
            peer.stdout.readline()  # it listens
            result = wisp.run(folder, config, wrapper=recording.wrapper)
            assert peer.wait(wisp.LIMIT_S) == 0 and "result " in result.output, result
        recording.read_into(seen)


def frames_in_every_way(folder, seen):
    """The bench guest on a tap, whose frames come back: through a ring, through plain system calls, and not at all from a tap
    that another has."""
    bench = f"{os.path.dirname(wisp.GUESTS)}/bench"
    for deny, taken in ((), False), (("io_uring_setup",), False), ((), True):
        with net.own_namespace(), net.tap(address=False) as tap, \
             subprocess.Popen([f"{bench}/net_peer", "echo", tap.name], stdout=subprocess.PIPE) as echo:
            echo.stdout.readline()  # it is ready
            recording = Recording(folder, *deny)
            config = wisp.machine(f"{bench}/net_guest", boot_args="work=verify size=1514 count=20",
                                  **{"network-interfaces": [net.interface(tap.name, guest_mac="06:00:00:00:00:01")]})
            holder = net.open_tun(tap.name) if taken else None
            result = wisp.run(folder, config, wrapper=recording.wrapper)
            if taken:
                os.close(holder)
            echo.kill()
        assert "is in use" in result.errors if taken else "errors=0" in result.output, result
        recording.read_into(seen)


def request(path, method, target, body=None, *, ok=True):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(wisp.LIMIT_S)
        client.connect(path)
        data = json.dumps(body).encode() if body is not None else b""
        client.sendall(f"{method} {target} HTTP/1.1\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        answer = client.recv(1 << 20).decode()
    assert not ok or answer.startswith("HTTP/1.1 20"), (target, answer)
    return answer


def through_the_api(folder, seen, *deny, direct=False):
    """Configured, started, used and changed by a client, as tests and users of Firecracker do."""
    recording = Recording(folder, *deny)
    sock = f"{folder}/api.sock"
    process = subprocess.Popen([*recording.wrapper, *wisp.COMMAND, "--api-sock", sock, "--http-api-max-payload-size", "1000000"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "API server started" in line:
            break
    try:
        use_api(folder, sock, wisp.drive(disk(folder), id="data", root=False, **({"direct": True} if direct else {})))
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(wisp.LIMIT_S) == -signal.SIGTERM, rest
    finally:
        process.kill()
        process.wait()
    assert not os.path.exists(sock)
    recording.read_into(seen)


def use_api(folder, sock, drive):
    put = lambda target, body: request(sock, "PUT", target, body)
    patch = lambda target, body: request(sock, "PATCH", target, body)
    put("/boot-source", {"kernel_image_path": wisp.guest("first")})
    put("/machine-config", {"vcpu_count": 2, "mem_size_mib": 128})
    put("/drives/data", drive)
    put("/metrics", {"metrics_path": f"{folder}/metrics"})
    put("/cpu-config", {"msr_modifiers": [{"addr": "0x1a0", "bitmap": "0b0"}], "kvm_capabilities": ["1"]})
    put("/actions", {"action_type": "InstanceStart"})
    put("/actions", {"action_type": "SendCtrlAltDel"})
    patch("/vm", {"state": "Paused"})
    patch("/vm", {"state": "Resumed"})
    patch("/drives/data", {"drive_id": "data", "path_on_host": disk(folder, "other")})
    if block := loop_device(disk(folder, "behind")):
        try:
            patch("/drives/data", {"drive_id": "data", "path_on_host": block})
        finally:
            patch("/drives/data", {"drive_id": "data", "path_on_host": disk(folder, "other")})
            subprocess.run(["losetup", "-d", block], check=True)
    request(sock, "PATCH", "/vm", {"state": "x" * 400_000}, ok=False)  # larger than the allocator's heap takes
    put("/actions", {"action_type": "FlushMetrics"})
    request(sock, "GET", "/vm/config")
    request(sock, "GET", "/nothing", ok=False)


def starts_that_fail(folder, seen):
    """A tap that another has keeps the machine from being built. The next attempt waits for that tap while the kernel takes the
    ring of the last one's drive down, which interrupts the wait."""
    recording = Recording(folder)
    sock = f"{folder}/api.sock"
    with net.own_namespace(), net.tap(address=False) as tap:
        process = subprocess.Popen([*recording.wrapper, *wisp.COMMAND, "--api-sock", sock], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   text=True)
        while "API server started" not in process.stdout.readline():
            pass
        request(sock, "PUT", "/boot-source", {"kernel_image_path": wisp.guest("first")})
        request(sock, "PUT", "/drives/data", wisp.drive(disk(folder), id="data", root=False))
        request(sock, "PUT", "/network-interfaces/eth0", net.interface(tap.name))
        holder = net.open_tun(tap.name)
        for _ in range(3):
            assert "is in use" in request(sock, "PUT", "/actions", {"action_type": "InstanceStart"}, ok=False)
        os.close(holder)
        request(sock, "PUT", "/actions", {"action_type": "InstanceStart"})
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(wisp.LIMIT_S) == -signal.SIGTERM, rest
    recording.read_into(seen)


def loop_device(path):
    """A block device, where we may make one."""
    made = subprocess.run(["losetup", "-f", "--show", path], capture_output=True, text=True)
    return made.stdout.strip() if made.returncode == 0 and stat.S_ISBLK(os.stat(made.stdout.strip()).st_mode) else None


def needed(folder):
    seen = {}
    for engine in ("Async", "Sync"):
        drive_in_every_way(folder, seen, io_engine=engine)
    ends(folder, seen)
    keyboard(folder, seen)
    on_a_terminal(folder, seen)
    vsock_in_every_way(folder, seen)
    frames_in_every_way(folder, seen)
    through_the_api(folder, seen)
    through_the_api(folder, seen, "io_uring_setup", "clone3")
    through_the_api(folder, seen, direct=True)
    starts_that_fail(folder, seen)
    return seen
