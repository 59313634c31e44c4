#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""BENCH=jail: what a jail costs, from the jailer's start to the end of a 9 KB payload in it. PEER=path: another jailer,
or a monitor with one beside it.

jail.setup_minstr   the lab, instructions counted; best of ROUNDS, less noise than any clock
jail.setup          this host, µs, median
jail.crowd          this host with 500 mounts more: 10 at once against one alone. Its value is how much longer the crowd takes
                    than 10 alone, one after the other, spread over the CPUs: 1 if they do not hinder each other at all. The note says
                    what each one saw.
seccomp.loop, .vcpu system calls that a thread of that kind may make while a guest runs (Firecracker: 50 and 27)
seccomp.start       exec to the guest's first MMIO write, ms, median, against the same without filters
Needs root for jail.setup and jail.crowd, which are left out without it.
"""
import ctypes
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import report
import start

sys.path.insert(0, f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/tests/support")
import policies  # noqa: E402

JAILER = f"{report.BUILD}/wisp-jailer"
PAYLOAD = f"{report.BUILD}/bench/jail_payload"
PEER = os.environ.get("PEER")
if PEER and os.path.exists(f"{os.path.dirname(PEER)}/jailer"):
    PEER = f"{os.path.dirname(PEER)}/jailer"
PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROUNDS = int(os.environ.get("ROUNDS", "40"))
LAB_ROUNDS = 5
CROWD, MOUNTS = 10, 500
CLONE_NEWNS, MS_REC, MS_PRIVATE, MS_SHARED = 0x20000, 1 << 14, 1 << 18, 1 << 20


class Jails:
    def __init__(self, base):
        self.base, self.count = base, 0

    def start(self, jailer):
        self.count += 1
        return os.posix_spawn(jailer, [jailer, "--id", f"bench-{self.count}", "--exec-file", PAYLOAD, "--uid", "1000", "--gid",
                                       "1000", "--chroot-base-dir", self.base], {})

    def alone_us(self, jailer):
        start = time.perf_counter_ns()
        reap(self.start(jailer))
        return (time.perf_counter_ns() - start) / 1000

    def crowd_us(self, jailer):
        """(until the last has ended, until each has ended)"""
        begin = time.perf_counter_ns()
        started, each = {}, []
        for _ in range(CROWD):
            now = time.perf_counter_ns()
            started[self.start(jailer)] = now
        while started:
            pid = reap(-1)
            each.append((time.perf_counter_ns() - started.pop(pid)) / 1000)
        return (time.perf_counter_ns() - begin) / 1000, statistics.median(each)


def reap(pid):
    pid, status = os.waitpid(pid, 0)
    if status:
        sys.exit(f"bench: a jail ended with status {status}")
    return pid


def jailers():
    return [JAILER] + ([PEER] if PEER else [])


def count_instructions():
    """{jailer: Minstr} from one L1."""
    script = ["mkdir /stage/base"]
    names = {}
    for jailer in jailers():
        names[jailer] = f"/stage/{os.path.basename(jailer)}"
        for i in range(LAB_ROUNDS):
            script.append(f"measure -- {names[jailer]} --id {os.path.basename(jailer)}-{i} --exec-file /stage/jail_payload --uid 1000 "
                          "--gid 1000 --chroot-base-dir /stage/base")
    script.append(f"measure --repeat {LAB_ROUNDS} -- /stage/jail_payload")
    done = subprocess.run([f"{PROJECT}/tests/lab/run", "--icount", "--stage", PAYLOAD, *jailers(), "--", "sh", "-ec", "\n".join(script)],
                          stdout=subprocess.PIPE, text=True, check=True)
    counts = [int(line.split()[0].removeprefix("ns=")) / 1e6 for line in done.stdout.splitlines() if line.startswith("ns=")]
    best = [min(counts[i:i + LAB_ROUNDS]) for i in range(0, len(counts), LAB_ROUNDS)]
    return dict(zip([*jailers(), "floor"], best))


def in_turns(measure):
    """{jailer: results}, one of each after the other, so that a noisy minute hits all."""
    results = {jailer: [] for jailer in jailers()}
    for _ in range(ROUNDS):
        for jailer in jailers():
            results[jailer].append(measure(jailer))
    return results


def add_mounts(folder):
    """A mount namespace of our own with a host's shared mounts, and many of them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) or libc.mount(b"", b"/", None, MS_REC | MS_PRIVATE, None) or \
            libc.mount(b"", b"/", None, MS_REC | MS_SHARED, None):
        sys.exit("bench: cannot make a mount namespace")
    for i in range(MOUNTS):
        path = f"{folder}/mount-{i}"
        os.mkdir(path)
        if libc.mount(b"bench", path.encode(), b"tmpfs", 0, b"size=4k"):
            sys.exit("bench: cannot mount")


def crowd_on_full_host(folder):
    """In a child, because its mounts must end with it: {jailer: (hindrance, each against alone)}"""
    add_mounts(folder)
    jails = Jails(tempfile.mkdtemp(dir=folder))
    cpus = len(os.sched_getaffinity(0))
    alone = {j: statistics.median(times) for j, times in in_turns(jails.alone_us).items()}
    found = {}
    for jailer, crowds in in_turns(jails.crowd_us).items():
        whole = statistics.median(w for w, _ in crowds)
        each = statistics.median(e for _, e in crowds)
        found[jailer] = (whole / (alone[jailer] * max(1, CROWD / cpus)), each / alone[jailer], alone[jailer])
    return found


def run_in_child(function, *arguments):
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write_end, repr(function(*arguments)).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as file:
        text = file.read()
    reap(pid)
    return eval(text)  # our own repr of numbers and paths


def name_of(jailer, name):
    return name if jailer == JAILER else f"peer.{name}"


def add(results, name, unit, goal, values, note=None):
    for jailer in jailers():
        mine = jailer == JAILER
        reference = ("peer", values[PEER]) if mine and PEER else None
        results.add(name_of(jailer, name), values[jailer], unit, goal=goal if mine else None, reference=reference,
                    note=note(jailer) if note else None)


def add_filters(results):
    for threads, goal, firecracker in (("loop", 44, 50), ("vcpu", 24, 27)):
        results.add(f"seccomp.{threads}", len(policies.calls_of(threads)), "calls", goal=goal, reference=("Firecracker 1.17", firecracker))
    wisp = f"{report.BUILD}/wisp"
    times = {"": [], "--no-seccomp": []}
    with tempfile.TemporaryDirectory() as folder:
        config = start.machine_file(folder, "first")
        for _ in range(ROUNDS):
            for flag in times:
                times[flag] += start.timed(1, "line", "Guest-boot-time", "--", wisp, "--no-api", "--boot-timer", "--config-file", config,
                                           *flag.split())
    filtered, free = (report.spread(times[flag])[0] for flag in times)
    results.add("seccomp.start", filtered, "ms", reference=("--no-seccomp", free))


def main():
    results = report.Report("jail")
    add_filters(results)
    counts = count_instructions()
    add(results, "jail.setup_minstr", "Minstr", 1.5, counts, lambda _: f"floor (the payload alone) {counts['floor']:.2f}")
    if os.geteuid() != 0:
        print("bench: jail.setup and jail.crowd need root: left out", file=sys.stderr)
        return results.finish()
    folder = tempfile.mkdtemp(prefix="wisp-bench-")
    try:
        jails = Jails(tempfile.mkdtemp(dir=folder))
        add(results, "jail.setup", "us", None, {j: statistics.median(t) for j, t in in_turns(jails.alone_us).items()})
        crowd = run_in_child(crowd_on_full_host, folder)
        add(results, "jail.crowd", "times", 2, {j: c[0] for j, c in crowd.items()},
            lambda j: f"each {crowd[j][1]:.1f} times one alone ({crowd[j][2]:.0f} us) on {os.cpu_count()} CPUs")
    finally:
        shutil.rmtree(folder)
    return results.finish()


if __name__ == "__main__":
    main()
