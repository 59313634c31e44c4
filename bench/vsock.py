#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""BENCH=vsock: virtio-vsock against plain Unix sockets between two processes, with the same program at the host's end.

The guest is bench/guest/vsock.c: it drives the virtqueues from ring 3 by polling, so it runs natively on hardware KVM and on
PVM hosts. Each round runs every contender once, so that a noisy minute hits all of them. PEER=path adds another monitor.
ROUNDS and MS set how often and how long; PRIORITY: see report.py.
"""
import os
import subprocess
import sys
import tempfile

import bench_guest
import report

ROUNDS = int(os.environ.get("ROUNDS", "5"))
MS = int(os.environ.get("MS", "1000"))
MIB = 1 << 20

# name, work, size, unit, goal as a ratio to the sockets
WORKS = [
    ("g2h_64k", "send", 65536, "MiB/s", 0.9),
    ("h2g_64k", "receive", 65536, "MiB/s", 0.9),
    ("g2h_4k", "send", 4096, "MiB/s", 0.7),
    ("rtt_us", "echo", 1, "us", None),
    ("connects_per_s", "accept", 1, "1/s", None),
]


def value_of(line, unit):
    fields = dict(part.split("=") for part in line.split())
    if unit == "MiB/s":
        return int(fields["bytes"]) / MIB * 1e6 / int(fields["us"])
    count, us = int(fields["count"]), int(fields["us"])
    return us / count if unit == "us" else count * 1e6 / us


def sockets(folder, work, size):
    return subprocess.run([*report.prefix(), f"{report.BUILD}/bench/vsock_peer", "pair", f"{folder}/pair", work, str(size), str(MS)],
                          check=True, capture_output=True, text=True, timeout=60).stdout


class Guest:
    """The bench guest on one monitor."""

    def __init__(self, monitor, folder):
        self.monitor, self.folder, self.runs = monitor, folder, 0

    def run(self, work, size):
        self.runs += 1
        path = f"{self.folder}/{os.path.basename(self.monitor)}-{self.runs}"
        config = bench_guest.write_machine(f"{path}.json", f"{report.BUILD}/bench/vsock_guest",
                                           f"work={work} size={size} ms={MS} tsc_khz={bench_guest.tsc_khz()}",
                                           vsock={"guest_cid": 3, "uds_path": path})
        peer = subprocess.Popen([*report.prefix(), f"{report.BUILD}/bench/vsock_peer", "guest", path, work, str(size), str(MS)],
                                stdout=subprocess.PIPE, text=True)
        peer.stdout.readline()  # it listens
        vm = subprocess.run([*report.prefix(), self.monitor, "--no-api", "--config-file", config], stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=60)
        output, _ = peer.communicate(timeout=60)
        if "result " not in vm.stdout or not output:
            sys.exit(f"bench: no result from {self.monitor} ({work}): {vm.stdout[-500:]}{vm.stderr[-500:]}{output}")
        return output


def main():
    peer = os.environ.get("PEER")
    results = report.Report("vsock")
    with tempfile.TemporaryDirectory() as folder:  # its path must be short
        guests = {"vsock": Guest(f"{report.BUILD}/wisp", folder)}
        if peer:
            guests["peer.vsock"] = Guest(os.path.abspath(peer), folder)
        for name, work, size, unit, goal in WORKS:
            values = {"sockets": []} | {guest: [] for guest in guests}
            for _ in range(ROUNDS):
                values["sockets"].append(value_of(sockets(folder, work, size), unit))
                for guest in guests:
                    values[guest].append(value_of(guests[guest].run(work, size), unit))
            medians = {who: report.spread(measured)[0] for who, measured in values.items()}
            for guest in guests:
                results.add(f"{guest}.{name}", medians[guest], unit, kind="cost" if unit == "us" else "rate",
                            goal=round(goal * medians["sockets"], 1) if goal and guest == "vsock" else None,
                            reference=("sockets", medians["sockets"]))
    results.finish()


if __name__ == "__main__":
    main()
