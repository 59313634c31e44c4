#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""BENCH=block: virtio-blk against fio with io_uring on the same file, in the host's page cache.

The guest is bench/guest: it drives the virtqueue from ring 3 by polling, so it runs natively on hardware KVM and on PVM
hosts. Each round runs every contender once, so that a noisy minute hits all of them. PEER=path adds another monitor, with
both of its I/O engines. ROUNDS and MS set how often and how long. PRIORITY=30 runs all of them as real-time processes: for
machines that are not quiet.

block.instr_per_io is counted in the lab (block_instructions.py), the same for every host. PARTS=rates or PARTS=instructions
measures only one of the two.
"""
import json
import os
import subprocess
import sys
import tempfile

import bench_guest
import report

ROUNDS = int(os.environ.get("ROUNDS", "5"))
MS = int(os.environ.get("MS", "1000"))
FILE_MIB = 512
PARTS = os.environ.get("PARTS", "rates instructions").split()
PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# name, guest's work, fio's, bytes, depth, goal as a ratio to fio
WORKS = [
    ("randread4k_qd32", "randread", "randread", 4096, 32, 0.9),
    ("randwrite4k_qd32", "randwrite", "randwrite", 4096, 32, 1.1),
    ("read128k_qd32", "read", "read", 131072, 32, 0.98),
    ("randread4k_qd1", "randread", "randread", 4096, 1, None),
]


def settle(image):
    """The host writes back what the last one left dirty: it would slow down the next one's writes."""
    with open(image, "rb") as file:
        os.fsync(file.fileno())


def fio(image, work, size, depth):
    out = subprocess.run(
        report.prefix() + ["fio", "--name=floor", f"--filename={image}", "--ioengine=io_uring", "--registerfiles=1", f"--rw={work}",
                    f"--bs={size}", f"--iodepth={depth}", "--norandommap", "--gtod_reduce=1", "--invalidate=0", "--time_based",
                    f"--runtime={MS}ms", f"--size={FILE_MIB}m", "--output-format=json"],
        check=True, capture_output=True, text=True).stdout
    job = json.loads(out[out.index("{"):])["jobs"][0]
    return job["read"]["iops"] + job["write"]["iops"]


class Guest:
    """The bench guest on one monitor with one I/O engine."""

    def __init__(self, monitor, engine, image, folder):
        self.monitor, self.engine, self.image, self.folder = monitor, engine, image, folder

    def run(self, work, size, depth):
        config = bench_guest.write_machine(f"{self.folder}/machine.json", f"{report.BUILD}/bench/block_guest",
                                           f"work={work} size={size} depth={depth} ms={MS} tsc_khz={bench_guest.tsc_khz()}",
                                           [bench_guest.block_drive(self.image, self.engine)])
        done = subprocess.run(report.prefix() + [self.monitor, "--no-api", "--config-file", config], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)
        for line in done.stdout.splitlines():
            if "result " in line:
                fields = dict(part.split("=") for part in line[line.index("result "):].split()[1:])
                if fields["errors"] != "0":
                    sys.exit(f"bench: {self.monitor} ({self.engine}): {fields['errors']} I/O errors")
                return int(fields["requests"]) * 1e6 / int(fields["us"])
        sys.exit(f"bench: no result from {self.monitor} ({self.engine}): {done.stdout[-500:]}{done.stderr[-500:]}")


def measure_instructions(results, peer):
    monitors = [f"{report.BUILD}/wisp"] + ([os.path.abspath(peer)] if peer else [])
    staged = [f"/stage/{os.path.basename(monitor)}" for monitor in monitors]
    ran = subprocess.run([f"{PROJECT}/tests/lab/run", "--icount", "--stage", *monitors, f"{report.BUILD}/bench/block_guest", "--",
                          "/usr/bin/python3", "-B", f"{PROJECT}/bench/block_instructions.py", *staged],
                         capture_output=True, text=True, timeout=1800)
    if ran.returncode != 0:
        sys.exit(f"bench: the lab ended with code {ran.returncode}: {ran.stdout[-500:]}{ran.stderr[-2000:]}")
    costs = {}
    for line in ran.stdout.splitlines():
        monitor, engine, work, *figures = line.split()
        costs[monitor, engine, work] = [float(figure) for figure in figures]
    suffix = {"randread": "", "randwrite": ".write", "Async": "", "Sync": ".sync"}
    for (monitor, engine, work), (median, least, most) in costs.items():
        name = f"block.instr_per_io{suffix[work]}{suffix[engine]}"
        note = f"{least:.0f} to {most:.0f}"
        if monitor != staged[0]:
            results.add(f"peer.{name}", median, "instr", note=note)
            continue
        other = costs[staged[1], engine, work][0] if peer else None
        results.add(name, median, "instr", goal=round(other) if peer else None, reference=(f"peer.{name}", other) if peer else None,
                    note=note)


def measure_rates(results, peer):
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        image = f"{folder}/disk"
        with open(image, "wb") as out:
            for _ in range(FILE_MIB):
                out.write(os.urandom(1 << 20))
        wisp = f"{report.BUILD}/wisp"
        guests = {"block": Guest(wisp, "Async", image, folder), "block.sync": Guest(wisp, "Sync", image, folder)}
        if peer:
            guests["peer.block.async"] = Guest(os.path.abspath(peer), "Async", image, folder)
            guests["peer.block.sync"] = Guest(os.path.abspath(peer), "Sync", image, folder)
        for name, work, fio_work, size, depth, goal in WORKS:
            rates = {"fio": []} | {guest: [] for guest in guests}
            for _ in range(ROUNDS):
                settle(image)
                rates["fio"].append(fio(image, fio_work, size, depth))
                for guest in guests:
                    settle(image)
                    rates[guest].append(guests[guest].run(work, size, depth))
            medians = {who: report.spread(values)[0] for who, values in rates.items()}
            for guest in guests:
                own = guest == "block"
                limit = goal * medians["fio"] if own and goal else None
                if own and not goal and peer:
                    limit = 2 * max(medians["peer.block.async"], medians["peer.block.sync"])
                results.add(f"{guest}.{name}", medians[guest], "1/s", kind="rate", goal=limit, reference=("fio", medians["fio"]))


def main():
    peer = os.environ.get("PEER")
    results = report.Report("block")
    if "rates" in PARTS:
        measure_rates(results, peer)
    if "instructions" in PARTS:
        measure_instructions(results, peer)
    results.finish()


if __name__ == "__main__":
    main()
