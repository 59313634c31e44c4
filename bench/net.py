#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""BENCH=net: virtio-net against a plain process that moves the same frames through the same kind of tap.

The guest is bench/guest: it drives both virtqueues from ring 3 by polling. The plain process is bench/net_peer: a read or
write for each frame. Everything runs in a network namespace of its own. Received frames wait in the tap before the clock
starts, so that their sender's cost is not counted; the round trip goes to a process on a packet socket and back.

Each round runs every contender once, so that a noisy minute hits all of them. PEER=path adds another monitor. ROUNDS and MS
set how often and how long. PRIORITY: see report.py.
"""
import contextlib
import os
import subprocess
import sys
import tempfile
import time

import bench_guest
import report

ROUNDS = int(os.environ.get("ROUNDS", "5"))
MS = int(os.environ.get("MS", "1000"))
PEER_TOOL = f"{report.BUILD}/bench/net_peer"
TAP = "bench0"
GSO = 1448
GSO_FRAME = 54 + 45 * GSO

# name, what the guest and the plain process are told, helper on the host's side, goal as a ratio to the plain process
WORKS = [
    ("tx_gso64k", f"work=tx size={GSO_FRAME} gso={GSO} ms={MS}", ["tx", TAP, GSO_FRAME, GSO, MS], None, 0.9),
    ("rx_gso64k", f"work=rx size={GSO_FRAME} gso={GSO} count=1000 rounds=3", ["rx", TAP, GSO_FRAME, GSO, 1000, 3],
     ["fill", TAP, GSO_FRAME, GSO, 1000], 0.9),
    ("tx_1500", f"work=tx size=1514 ms={MS}", ["tx", TAP, 1514, 0, MS], None, 0.8),
    ("rx_1500", "work=rx size=1514 count=20000 rounds=3", ["rx", TAP, 1514, 0, 20000, 3], ["fill", TAP, 1514, 0, 20000], 0.8),
    ("rtt_us", "work=rtt size=60 count=10000", ["rtt", TAP, 60, 10000], ["echo", TAP], None),
]


def result_of(text, who):
    for line in text.splitlines():
        if "result " in line:
            fields = dict(part.split("=") for part in line[line.index("result "):].split()[1:])
            if fields.get("errors", "0") != "0":
                sys.exit(f"bench: {who}: {fields['errors']} errors")
            return int(fields["frames"]), int(fields["us"])
    sys.exit(f"bench: no result from {who}: {text[-1000:]}")


def wait_for_tap():
    """Until the one who had the tap before has let go of it."""
    flag = f"/sys/class/net/{TAP}/carrier"
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if open(flag).read().strip() == "0":
                return
        time.sleep(0.01)


def plain(arguments):
    wait_for_tap()
    done = subprocess.run(report.prefix() + [PEER_TOOL, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    return result_of(done.stdout + done.stderr, "net_peer")


@contextlib.contextmanager
def helper(arguments):
    if not arguments:
        yield
        return
    process = subprocess.Popen(report.prefix() + [PEER_TOOL, *map(str, arguments)], stdout=subprocess.PIPE)
    process.stdout.readline()  # "ready"
    try:
        yield
    finally:
        process.kill()
        process.wait()


def guest(monitor, work, folder):
    wait_for_tap()
    interface = {"iface_id": "eth0", "host_dev_name": TAP}
    config = bench_guest.write_machine(f"{folder}/machine.json", f"{report.BUILD}/bench/net_guest",
                                       f"{work} tsc_khz={bench_guest.tsc_khz()}", **{"network-interfaces": [interface]})
    done = subprocess.run(report.prefix() + [monitor, "--no-api", "--config-file", config], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120, errors="replace")
    return result_of(done.stdout + done.stderr, monitor)


def main():
    if "WISP_BENCH_NETNS" not in os.environ:
        os.environ["WISP_BENCH_NETNS"] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, "-B", *sys.argv])
    subprocess.run(["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"], check=False)  # no frames of the host's own
    subprocess.run(["ip", "tuntap", "add", TAP, "mode", "tap"], check=True)
    subprocess.run(["ip", "link", "set", TAP, "txqueuelen", "30000", "up"], check=True)
    peer = os.environ.get("PEER")
    monitors = {"net": f"{report.BUILD}/wisp"} | ({"peer.net": os.path.abspath(peer)} if peer else {})
    results = report.Report("net")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        for name, work, plain_work, host_side, goal in WORKS:
            runs = {"plain": []} | {who: [] for who in monitors}
            for _ in range(ROUNDS):
                runs["plain"].append(plain(plain_work))
                for who, monitor in monitors.items():
                    with helper(host_side):
                        runs[who].append(guest(monitor, work, folder))
            cost = name == "rtt_us"
            values = {who: report.spread([us / frames if cost else frames * 1e6 / us for frames, us in done])[0]
                      for who, done in runs.items()}
            for who in monitors:
                limit = goal * values["plain"] if goal and who == "net" else None
                if cost and who == "net" and peer:
                    limit = values["peer.net"]
                results.add(f"{who}.{name}", values[who], "us" if cost else "1/s", kind="cost" if cost else "rate", goal=limit,
                            reference=("plain process", values["plain"]))
    results.finish()


if __name__ == "__main__":
    main()
