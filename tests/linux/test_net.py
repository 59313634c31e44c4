# SPDX-License-Identifier: Apache-2.0
"""virtio-net with a Linux guest: both directions of every protocol, with the data compared at the other end."""
import contextlib
import hashlib
import http.client
import json
import os
import re
import socket
import struct
import subprocess
import threading
import time

import net
import pytest
import wisp
from test_boot import CONSOLE, KERNEL, ROOTFS

PROBE = f"{wisp.BUILD}/tests/net_probe"
PROLOGUE = "cp /dev/vdb /tmp/probe && chmod +x /tmp/probe && "


@pytest.fixture
def tap():
    with net.tap() as made:
        yield made


def vm(tmp_path, tap, command, *flags, interfaces=None, **more):
    probe = tmp_path / "probe"
    data = open(PROBE, "rb").read()
    probe.write_bytes(data + bytes(-len(data) % 512))
    drives = [wisp.drive(wisp.copy_of(ROOTFS, tmp_path)), wisp.drive(probe, id="probe", root=False, read_only=True)]
    boot_args = f'{CONSOLE} {tap.kernel_argument} -- /bin/sh -c "mount -t tmpfs none /tmp; {PROLOGUE}{command}"'
    more["network-interfaces"] = interfaces or [net.interface(tap.name)]
    return wisp.Vm(tmp_path, wisp.machine(KERNEL, boot_args=boot_args, drives=drives, **more), *flags)


def succeeded(machine):
    result = machine.wait()
    assert result.code == wisp.EXIT_OK and result.guest_status == 0, result
    return result.output


class Server:
    """A TCP server for one connection, on the tap's address."""

    def __init__(self, address, serve):
        self.socket = socket.create_server((address, 0))
        self.socket.settimeout(wisp.LIMIT_S)
        self.port = self.socket.getsockname()[1]
        self.result = None
        self.thread = threading.Thread(target=self._run, args=(serve,), daemon=True)
        self.thread.start()

    def _run(self, serve):
        connection, _ = self.socket.accept()
        with connection:
            self.result = serve(connection)

    def wait(self):
        self.thread.join(wisp.LIMIT_S)
        assert not self.thread.is_alive()
        return self.result


def md5_of_all(connection):
    digest = hashlib.md5()
    while data := connection.recv(1 << 16):
        digest.update(data)
    return digest.hexdigest()


def test_ping_both_ways(tmp_path, tap):
    with vm(tmp_path, tap, f"ping -c 2 -s 18 -W 5 {tap.host} && ping -c 2 -s 1400 -W 5 {tap.host} && echo pinged the host; read line",
            ) as machine:
        machine.wait_for("pinged the host")


def test_the_host_pings_the_guest(tmp_path, tap):
    with vm(tmp_path, tap, "echo up; sleep 100") as machine:
        machine.wait_for(r"(?m)^up\r?$")
        for size in ("18", "1400", "8000"):  # 60 bytes on the wire; one frame; fragments
            subprocess.run([net.BUSYBOX, "ping", "-c", "2", "-W", "10", "-s", size, tap.guest], check=True, capture_output=True)


def test_tcp_from_the_guest(tmp_path, tap):
    server = Server(tap.host, md5_of_all)
    command = (f"dd if=/dev/urandom of=/tmp/f bs=64k count=48 2>/dev/null && md5sum /tmp/f && nc {tap.host} {server.port} < /tmp/f")
    with vm(tmp_path, tap, command) as machine:
        output = succeeded(machine)
    assert server.wait() == re.search(r"\b[0-9a-f]{32}\b", output)[0]


def test_tcp_to_the_guest(tmp_path, tap):
    data = os.urandom(3 << 20)
    server = Server(tap.host, lambda connection: connection.sendall(data))
    with vm(tmp_path, tap, f"nc {tap.host} {server.port} < /dev/null | md5sum") as machine:
        output = succeeded(machine)
    assert hashlib.md5(data).hexdigest() in output


def test_udp_from_the_guest(tmp_path, tap):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
        echo.bind((tap.host, 0))
        echo.settimeout(wisp.LIMIT_S)

        def serve():
            while True:
                data, peer = echo.recvfrom(65536)
                echo.sendto(data, peer)

        threading.Thread(target=serve, daemon=True).start()
        with vm(tmp_path, tap, f"/tmp/probe check {tap.host} {echo.getsockname()[1]} 60 9000") as machine:
            assert "60 datagrams came back as they were" in succeeded(machine)


def test_udp_to_the_guest(tmp_path, tap):
    with vm(tmp_path, tap, "/tmp/probe echo 7007") as machine, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        machine.wait_for("echo is ready")
        client.connect((tap.guest, 7007))
        client.settimeout(10)
        for size in (1, 2, 18, 19, 500, 1472, 1473, 9000, 30000):
            data = os.urandom(size)
            for _ in range(3):
                client.send(data)
                try:
                    assert client.recv(65536) == data
                    break
                except socket.timeout:
                    pass
            else:
                pytest.fail(f"{size} bytes did not come back")
        client.send(b"end")
        succeeded(machine)


def internet_sum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_checksums_are_whole_or_marked_as_not(tmp_path, tap):
    """What a capture on the tap sees: segments larger than a frame, each with its checksum, or marked as still to be summed."""
    PACKET_AUXDATA, SOL_PACKET, NOT_READY = 8, 263, 1 << 3
    capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    capture.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    capture.bind((tap.name, 0x0800))
    capture.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    server = Server(tap.host, md5_of_all)
    with vm(tmp_path, tap, f"/tmp/probe send {tap.host} {server.port} {1 << 20}") as machine:
        succeeded(machine)
    server.wait()
    capture.setblocking(False)
    partial = whole = largest = 0
    source = socket.inet_aton(tap.guest)
    while True:
        try:
            frame, extra, _, _ = capture.recvmsg(1 << 17, 256)
        except BlockingIOError:
            break
        packet = frame[14:]
        if packet[9] != 6 or packet[12:16] != source:
            continue
        header = (packet[0] & 15) * 4
        assert internet_sum(packet[:header]) == 0xFFFF
        segment = packet[header:struct.unpack("!H", packet[2:4])[0]]
        pseudo = packet[12:20] + struct.pack("!HH", 6, len(segment))
        status = next(struct.unpack_from("I", data)[0] for level, kind, data in extra if (level, kind) == (SOL_PACKET, PACKET_AUXDATA))
        largest = max(largest, len(frame))
        if status & NOT_READY:
            partial += 1
            assert struct.unpack("!H", segment[16:18])[0] == internet_sum(pseudo)
        else:
            whole += 1
            assert internet_sum(pseudo + segment) == 0xFFFF
    assert partial > 0 and largest > 1514, (partial, whole, largest)  # how large depends on how fast the acknowledgements come


@pytest.mark.parametrize("mtu", [68, 1280, 9000, 65521, 65535])
def test_mtu(tmp_path, mtu):
    of_tap = min(mtu, 65521)  # no tap takes more
    with net.tap(mtu=of_tap) as tap:
        command = f"cat /sys/class/net/eth0/mtu && ping -c 2 -W 10 -s {of_tap - 28} {tap.host}"
        with vm(tmp_path, tap, command, interfaces=[net.interface(tap.name, mtu=mtu)]) as machine:
            assert re.search(rf"(?m)^{mtu}\r?$", succeeded(machine))


def test_the_mac_address_is_the_configured_one(tmp_path, tap):
    with vm(tmp_path, tap, "cat /sys/class/net/eth0/address",
            interfaces=[net.interface(tap.name, guest_mac="06:00:ac:10:00:02")]) as machine:
        assert "06:00:ac:10:00:02" in succeeded(machine)


def test_two_interfaces(tmp_path, tap):
    with net.tap() as second:
        command = (f"ip address add {second.guest}/24 dev eth1 && ip link set eth1 up && "
                   f"ping -c 2 -W 5 {tap.host} && ping -c 2 -W 5 {second.host}")
        with vm(tmp_path, tap, command, interfaces=[net.interface(tap.name), net.interface(second.name, id="eth1")]) as machine:
            succeeded(machine)


def flood(tap_name, count):
    """Frames from the host's side of the tap, as fast as they go, to whom it may concern."""
    frame = b"\xff" * 6 + b"\x02" * 6 + struct.pack("!H", 0x88B5) + bytes(1400)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind((tap_name, 0))
        for _ in range(count):
            with contextlib.suppress(BlockingIOError, OSError):  # the tap holds no more
                out.send(frame)


def status_kib(pid, name):
    return int(next(line.split()[1] for line in open(f"/proc/{pid}/status") if line.startswith(name + ":")))


def set_state(path, state):
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(path)
    connection.request("PATCH", "/vm", json.dumps({"state": state}))
    assert connection.getresponse().status == 204
    connection.close()


def answers(tap, size="18"):
    done = subprocess.run([net.BUSYBOX, "ping", "-c", "2", "-W", "10", "-s", size, tap.guest], capture_output=True)
    return done.returncode == 0


def test_a_flood_while_the_guest_is_paused(tmp_path, tap):
    """The tap holds what it can; the monitor takes nothing, costs nothing, and goes on afterwards, in both directions."""
    socket_path, config = f"{tmp_path}/api", f"{tmp_path}/machine.json"
    with open(config, "w") as out:
        json.dump(wisp.machine(KERNEL, boot_args=f'{CONSOLE} {tap.kernel_argument} -- /bin/sleep 100000',
                               drives=[wisp.drive(wisp.copy_of(ROOTFS, tmp_path))],
                               **{"network-interfaces": [net.interface(tap.name)]}), out)
    process = subprocess.Popen([*wisp.COMMAND, "--api-sock", socket_path, "--config-file", config],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + wisp.LIMIT_S
        while not answers(tap):
            assert time.monotonic() < deadline, "no guest answers"
        for _ in range(3):
            set_state(socket_path, "Paused")
            flood(tap.name, 500)
            before, ticks = status_kib(process.pid, "VmRSS"), os.times()
            spent = sum(map(int, open(f"/proc/{process.pid}/stat").read().rsplit(")")[1].split()[11:13]))
            flood(tap.name, 2000)
            assert status_kib(process.pid, "VmRSS") <= before + 1024
            now = sum(map(int, open(f"/proc/{process.pid}/stat").read().rsplit(")")[1].split()[11:13]))
            assert now - spent <= (os.times().elapsed - ticks.elapsed) * os.sysconf("SC_CLK_TCK") / 4 + 2, "busy though paused"
            set_state(socket_path, "Resumed")
            assert answers(tap) and answers(tap, "8000")
    finally:
        process.kill()
        process.wait()


# ---- examples/net, each in network namespaces of the test's own ----

def everything():
    """What a recipe could leave behind."""
    run = lambda *words: subprocess.run(words, capture_output=True, text=True, check=True).stdout  # noqa: E731
    return [run("ip", "-o", "link"), run("ip", "-o", "-4", "address"), run("ip", "route"), run("nft", "list", "ruleset"),
            open("/proc/sys/net/ipv4/ip_forward").read(), sorted(name for name in os.listdir("/run") if "wisp" in name)]


@contextlib.contextmanager
def recipe(name, *arguments):
    path = f"{wisp.PROJECT}/examples/net/{name}"
    before = everything()
    subprocess.run([path, "up", *arguments], check=True)
    try:
        yield
    finally:
        subprocess.run([path, "down", *arguments], check=True)
    assert everything() == before


@contextlib.contextmanager
def outside():
    """A network beyond this host: 198.51.100.2, which knows no way to any guest. Yields how to run something there."""
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec sleep 100000"], stdout=subprocess.PIPE)
    holder.stdout.readline()
    there = ["nsenter", "--net", "--target", str(holder.pid)]
    net.ip("link", "add", "wisp-out", "type", "veth", "peer", "name", "wisp-in", "netns", holder.pid)
    try:
        net.ip("address", "add", "198.51.100.1/24", "dev", "wisp-out")
        net.ip("link", "set", "wisp-out", "up")
        subprocess.run([*there, "sh", "-c", "ip address add 198.51.100.2/24 dev wisp-in; ip link set wisp-in up"], check=True)
        yield there
    finally:
        net.ip("link", "delete", "wisp-out")
        holder.kill()
        holder.wait()


class At:
    """What vm() needs to know of a tap that a recipe made."""

    def __init__(self, name, address, host):
        self.name = name
        self.kernel_argument = f"ip={address}::{host}:255.255.255.0::eth0:off"


SERVER = """import socket
s = socket.create_server(("198.51.100.2", 7))
print("ready", flush=True)
c, peer = s.accept()
c.sendall(("you are " + peer[0] + "\\n").encode())
c.close()"""


def test_the_recipe_for_nat(tmp_path):
    with net.own_namespace(), outside() as there, recipe("nat"):
        server = subprocess.Popen([*there, "/usr/bin/python3", "-c", SERVER], stdout=subprocess.PIPE)
        assert server.stdout.readline() == b"ready\n"
        with vm(tmp_path, At("wisp0", "172.16.0.2", "172.16.0.1"), "nc 198.51.100.2 7 < /dev/null") as machine:
            assert "you are 198.51.100.1" in succeeded(machine)
        server.kill()
        server.wait()


def test_the_recipe_for_a_bridge(tmp_path):
    with net.own_namespace(), recipe("bridge"):
        first, second = tmp_path / "1", tmp_path / "2"
        first.mkdir(), second.mkdir()
        interfaces = [[net.interface(f"wispbr0-{n}", guest_mac=f"06:00:00:00:00:0{n}")] for n in (1, 2)]
        listen = "echo up; nc -l -p 7 > /tmp/got; md5sum /tmp/got"
        with vm(first, At("wispbr0-1", "172.17.100.2", "172.17.100.1"), listen, interfaces=interfaces[0]) as one:
            one.wait_for(r"(?m)^up\r?$")
            send = ("ping -c 2 -W 10 172.17.100.1 && ping -c 2 -W 10 172.17.100.2 && dd if=/dev/urandom of=/tmp/f bs=64k count=8 2>/dev/null && "
                    "md5sum /tmp/f && nc 172.17.100.2 7 < /tmp/f")
            with vm(second, At("wispbr0-2", "172.17.100.3", "172.17.100.1"), send, interfaces=interfaces[1]) as two:
                sent = re.search(r"\b[0-9a-f]{32}\b", succeeded(two))[0]
            assert sent in succeeded(one)


@pytest.mark.parametrize("name, device", [("nat", "wisp0"), ("bridge", "wispbr0-2")])
def test_a_recipe_keeps_off_what_is_there_already(name, device):
    with net.own_namespace():
        net.ip("link", "add", device, "type", "dummy")
        before = everything()
        done = subprocess.run([f"{wisp.PROJECT}/examples/net/{name}", "up"], capture_output=True, text=True)
        assert done.returncode != 0 and f"there is a network device {device} already" in done.stderr
        assert everything() == before


@pytest.mark.parametrize("name, tool, word", [("nat", "ip", "address"), ("nat", "nft", "-f"), ("bridge", "ip", "wispbr0-2 master")])
def test_a_recipe_that_fails_half_way_leaves_nothing(tmp_path, name, tool, word):
    real = subprocess.run(["sh", "-c", f"command -v {tool}"], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / tool).write_text(f'#!/bin/sh\ncase "$*" in *"{word}"*) echo "made to fail" >&2; exit 1;; esac\nexec {real} "$@"\n')
    (tmp_path / tool).chmod(0o755)
    with net.own_namespace():
        before = everything()
        done = subprocess.run([f"{wisp.PROJECT}/examples/net/{name}", "up"], capture_output=True, text=True,
                              env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
        assert done.returncode != 0 and "made to fail" in done.stderr and "undone" in done.stderr
        assert everything() == before


def test_metadata_without_a_way_to_the_host(tmp_path):
    metadata = tmp_path / "metadata.json"
    metadata.write_text(json.dumps({"latest": {"meta-data": {"ami-id": "ami-12345", "big": "x" * 20000}}}))
    with net.tap(address=False) as tap:
        command = ("ip route add 169.254.169.254 dev eth0; wget -q -O - http://169.254.169.254/latest/meta-data/ami-id; echo; "
                   "wget -q -O - http://169.254.169.254/latest/meta-data/big | wc -c")
        with vm(tmp_path, tap, command, "--metadata", str(metadata), **{
                "mmds-config": {"network_interfaces": ["eth0"], "version": "V1"}}) as machine:
            output = succeeded(machine)
    assert "ami-12345" in output and re.search(r"(?m)^20000\r?$", output)
