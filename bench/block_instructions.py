#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a request costs the host, in instructions: the part of bench/block.py that runs in the lab whose clock counts them.

    block_instructions.py MONITOR...    for each engine and work, a line: monitor, engine, work, median, least, most

Counted is the CPU time of the monitor's threads other than the vCPU's: its devices, and the host kernel on their behalf,
worker threads of io_uring among them. The guest is not, nor its kicks: one for each batch. The bench guest does N requests
and 2N, and what N more cost is divided by N, so that starting and warming up cancel out. The drive lies on ext4 in a loop
device, all of it in the page cache.
"""
import glob
import os
import statistics
import subprocess
import sys
import tempfile

import bench_guest

REQUESTS = 8192
REPEAT = 3
DEPTH = 32
FILE_MIB = 64


def make_drive(folder):
    os.truncate(os.open(f"{folder}/fs", os.O_CREAT | os.O_RDWR, 0o600), (FILE_MIB + 32) << 20)
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", f"{folder}/fs"], check=True)
    os.mkdir(f"{folder}/mnt")
    subprocess.run(["mount", "-o", "loop", f"{folder}/fs", f"{folder}/mnt"], check=True)
    with open(f"{folder}/mnt/disk", "wb") as out:
        for _ in range(FILE_MIB):
            out.write(b"\xa5" * (1 << 20))
        os.fsync(out.fileno())
    return f"{folder}/mnt/disk"


def device_threads_ns(pid):
    total = 0
    for task in glob.glob(f"/proc/{pid}/task/*"):
        if "vcpu" not in open(f"{task}/comm").read():
            total += int(open(f"{task}/schedstat").read().split()[0])
    return total


def run(folder, monitor, engine, work, requests):
    """CPU time of the monitor's device threads, after that many requests."""
    config = bench_guest.write_machine(f"{folder}/machine.json", "/stage/block_guest",
                                       f"work={work} size=4096 depth={DEPTH} requests={requests} hold=1",
                                       [bench_guest.block_drive(f"{folder}/mnt/disk", engine)])
    process = subprocess.Popen([monitor, "--no-api", "--config-file", config], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    try:
        seen = ""
        for line in process.stdout:
            seen += line
            if "result " in line:
                fields = dict(part.split("=") for part in line[line.index("result "):].split()[1:])
                assert fields["errors"] == "0" and int(fields["requests"]) == requests, line
                return device_threads_ns(process.pid)
        sys.exit(f"bench: no result from {monitor} ({engine}): {seen[-500:]}")
    finally:
        process.kill()
        process.wait()


def cost(folder, monitor, engine, work):
    run(folder, monitor, engine, work, REQUESTS)  # pays for what the others find in place
    costs = [(run(folder, monitor, engine, work, 2 * REQUESTS) - run(folder, monitor, engine, work, REQUESTS)) / REQUESTS
             for _ in range(REPEAT)]
    return statistics.median(costs), min(costs), max(costs)


def main():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        make_drive(folder)
        try:
            for monitor in sys.argv[1:]:
                for engine in ("Async", "Sync"):
                    for work in ("randread", "randwrite"):
                        print(monitor, engine, work, *cost(folder, monitor, engine, work), flush=True)
        finally:
            # Lazily: a ring that outlives its process by a moment holds the drive.
            subprocess.run(["umount", "--lazy", f"{folder}/mnt"], check=True)


if __name__ == "__main__":
    main()
