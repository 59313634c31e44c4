#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""BENCH=api: what the control API costs a client, on the host's KVM.

api.get             GET / with a new connection each time, µs, median; against a plain Unix-socket echo of the same sizes, and
                    against the peer
api.instance_start  InstanceStart sent to the guest's first write, which the monitor logs, ms, median
PEER=path measures the same of another monitor, in turns. ROUNDS sets how often.
"""
import os
import subprocess
import tempfile

import report

ROUNDS = int(os.environ.get("ROUNDS", "20"))
AT_ONCE = 200  # round trips in one go
CLIENT = f"{report.BUILD}/bench/api_client"


def client(*arguments):
    out = subprocess.run([CLIENT, *map(str, arguments)], check=True, capture_output=True, text=True).stdout
    return [int(number) for number in out.split()]


class Server:
    """A process that listens on a socket."""

    def __init__(self, command, sock):
        self.sock = sock
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while subprocess.run([CLIENT, "get", sock, "1"], capture_output=True).returncode != 0:
            assert self.process.poll() is None, f"{command[0]} ended"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def monitor(path, folder, name):
    sock = f"{folder}/{name}.sock"
    return Server([path, "--api-sock", sock, "--level", "Error"], sock)


def round_trips(results, wisp, peer, folder):
    """µs"""
    with monitor(wisp, folder, "wisp") as own:
        sizes = client("sizes", own.sock)
        with Server([CLIENT, "echo", f"{folder}/echo.sock", *map(str, sizes)], f"{folder}/echo.sock") as echo:
            works = {"wisp": ("get", own.sock, AT_ONCE), "echo": ("floor", echo.sock, AT_ONCE, *sizes)}
            other = monitor(peer, folder, "peer") if peer else None
            if other:
                works["peer"] = ("get", other.sock, AT_ONCE)
            times = {who: [] for who in works}
            for _ in range(ROUNDS):
                for who, work in works.items():
                    times[who] += client(*work)
            if other:
                other.__exit__()
    us = {who: report.spread([ns / 1000 for ns in all_ns]) for who, all_ns in times.items()}
    text = lambda who: f"best {us[who][2]:.1f}, p90 {us[who][1]:.1f}"
    if peer:
        results.add("api.get", us["wisp"][0], "us", goal=us["peer"][0], reference=("peer.api.get", us["peer"][0]), note=text("wisp"))
        results.add("peer.api.get", us["peer"][0], "us", reference=("echo", us["echo"][0]), note=text("peer"))
    results.add("api.get.floor" if peer else "api.get", us["wisp"][0], "us", reference=("echo", us["echo"][0]), note=text("echo"))


def starts(results, wisp, peer, folder):
    """ms"""
    monitors = {"wisp": wisp} | ({"peer": peer} if peer else {})
    times = {who: [] for who in monitors}
    for _ in range(ROUNDS):
        for who, path in monitors.items():
            sock = f"{folder}/start.sock"
            times[who] += client("start", sock, 1, f"{report.BUILD}/guests/first", "--", path, "--api-sock", sock, "--boot-timer")
    ms = {who: report.spread([ns / 1e6 for ns in all_ns]) for who, all_ns in times.items()}
    reference = ("peer.api.instance_start", ms["peer"][0]) if peer else None
    results.add("api.instance_start", ms["wisp"][0], "ms", reference=reference, note=f"best {ms['wisp'][2]:.2f}, p90 {ms['wisp'][1]:.2f}")
    if peer:
        results.add("peer.api.instance_start", ms["peer"][0], "ms")


def main():
    peer = os.environ.get("PEER")
    peer = os.path.abspath(peer) if peer else None
    results = report.Report("api")
    with tempfile.TemporaryDirectory() as folder:
        round_trips(results, f"{report.BUILD}/wisp", peer, folder)
        starts(results, f"{report.BUILD}/wisp", peer, folder)
    results.finish()


if __name__ == "__main__":
    main()
