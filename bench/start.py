#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""BENCH=start: how long a VM takes to its first instruction and to its end, and what the process weighs.

Runs on the host's KVM, hardware or PVM, with tiny guests. PEER=path measures the same of another monitor, in turns. So is
the floor: from spawn to the line of a program that does nothing else, which tells how quiet the machine was.
start.api, exec to the first answered request, is counted in instructions, in the lab; filters are on.
"""
import json
import os
import subprocess
import sys
import tempfile
import time

import report

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROUNDS = int(os.environ.get("ROUNDS", "60"))
API_ROUNDS = 20
MEMORY_MIB = 128


def machine_file(folder, guest, drive=None):
    config = {
        "boot-source": {"kernel_image_path": f"{report.BUILD}/guests/{guest}"},
        "machine-config": {"vcpu_count": 1, "mem_size_mib": MEMORY_MIB},
        "drives": [],
    }
    if drive:
        config["drives"].append({"drive_id": "data", "path_on_host": drive, "is_root_device": False, "is_read_only": False})
    path = f"{folder}/{guest}.json"
    with open(path, "w") as out:
        json.dump(config, out)
    return path


def timed(count, *arguments):
    """Milliseconds of each run."""
    out = subprocess.run([f"{report.BUILD}/bench/spawn_timer", str(count), *arguments], check=True, capture_output=True, text=True)
    return [int(line) / 1e6 for line in out.stdout.split()]


def in_turns(monitors, *arguments_of):
    """One round of each monitor after the other, so that a noisy minute hits both."""
    times = {monitor: [] for monitor in monitors}
    for _ in range(ROUNDS):
        for monitor in monitors:
            times[monitor] += timed(1, *arguments_of[0], "--", monitor, *arguments_of[1])
    return times


def weigh(monitor, config):
    """(private dirty, RSS) in KiB of an idle VM's process without the guest's memory."""
    os.sync()  # pages of a monitor just built are dirty in the page cache, and would count as its own
    process = subprocess.Popen([monitor, "--no-api", "--config-file", config, "--boot-timer"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if "Guest-boot-time" in line:
                break
        time.sleep(0.2)  # what it does after the guest's first word is part of its weight
        return subtract_guest_memory(process.pid)
    finally:
        process.kill()
        process.wait()


def subtract_guest_memory(pid):
    areas = []
    for line in open(f"/proc/{pid}/smaps"):
        fields = line.split()
        if "-" in fields[0] and not fields[0].endswith(":"):
            start, end = (int(part, 16) for part in fields[0].split("-"))
            areas.append({"start": start, "end": end, "protection": fields[1]})
        elif fields[0] in ("Private_Dirty:", "Rss:", "Size:"):
            areas[-1][fields[0]] = int(fields[1])
    guest = guest_areas(areas)
    own = [area for area in areas if area not in guest]
    return sum(a["Private_Dirty:"] for a in own), sum(a["Rss:"] for a in own)


def guest_areas(areas):
    """The run of neighbouring areas that is exactly as large as the guest's memory."""
    wanted = MEMORY_MIB << 20
    for first in range(len(areas)):
        run, size = [], 0
        for area in areas[first:]:
            if run and area["start"] != run[-1]["end"]:
                break
            if area["Size:"] and area["protection"].startswith("---"):
                break  # a heap's reserve
            run.append(area)
            size += area["end"] - area["start"]
            if size == wanted:
                return run
    sys.exit("bench: cannot find the guest's memory in the process")


def first_answers(monitor):
    """Minstr of each start but the first, by the client's clock. It runs under the lab's `measure`, whose own figures are not
    used: nothing else then wants the CPU while the client waits."""
    command = ["first", "/tmp/api.sock", str(API_ROUNDS + 1), "--", f"/stage/{os.path.basename(monitor)}", "--api-sock", "/tmp/api.sock"]
    ran = subprocess.run([f"{PROJECT}/tests/lab/run", "--icount", "--stage", monitor, f"{report.BUILD}/bench/api_client", "--",
                          "measure", "--", "/stage/api_client", *command], capture_output=True, text=True, timeout=1800)
    if ran.returncode != 0:
        sys.exit(f"bench: the lab ended with code {ran.returncode}: {ran.stderr[-2000:]}")
    return [int(line) / 1e6 for line in ran.stderr.split() if line.isdigit()][1:]


def main():
    peer = os.environ.get("PEER")
    wisp = f"{report.BUILD}/wisp"
    monitors = [wisp] + ([os.path.abspath(peer)] if peer else [])
    floor = f"{report.BUILD}/bench/first_line"
    results = report.Report("start")
    with tempfile.TemporaryDirectory() as folder:
        first, reset = machine_file(folder, "first"), machine_file(folder, "reset")
        drive = f"{folder}/data"
        with open(drive, "wb") as out:
            out.truncate(64 << 20)
        first_times = in_turns([*monitors, floor], ["line", "Guest-boot-time"],
                               ["--no-api", "--boot-timer", "--config-file", first])
        life_times = in_turns(monitors, ["exit"], ["--no-api", "--config-file", reset])
        idle = machine_file(folder, "first", drive)
        weights = {monitor: weigh(monitor, idle) for monitor in monitors}
    answers = {monitor: first_answers(monitor) for monitor in monitors}

    def compare(name, unit, goal, value, note=None):
        reference = (f"peer.{name}", value(monitors[1])) if peer else None
        results.add(name, value(wisp), unit, goal=goal, reference=reference, note=note)
        if peer:
            results.add(f"peer.{name}", value(monitors[1]), unit)

    def text(times):
        median, p90, best = report.spread(times)
        return f"best {best:.2f}, p90 {p90:.2f}"

    results.add("start.floor", report.spread(first_times[floor])[0], "ms", note=f"a program that only prints the line: {text(first_times[floor])}")
    compare("start.first_instruction", "ms", 1.5, lambda m: report.spread(first_times[m])[0], text(first_times[wisp]))
    compare("start.life", "ms", 5, lambda m: report.spread(life_times[m])[0], text(life_times[wisp]))
    compare("start.api", "Minstr", 1.5, lambda m: report.spread(answers[m])[0], text(answers[wisp]))
    compare("overhead.dirty", "KiB", 192, lambda m: weights[m][0])
    compare("overhead.rss", "KiB", 2048, lambda m: weights[m][1])
    results.finish()


if __name__ == "__main__":
    main()
