#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""BENCH=boot: what a boot costs, in instructions: from the exec of the monitor to the guest's init, host kernel, monitor and
guest together. Runs in the lab, whose clock counts them. PEER=path boots the same kernel with another monitor.

boot.total and boot.vmm are medians; the first boot in a fresh host, which pays for what the others find in place, is left out.
"""
import json
import os
import re
import statistics
import subprocess
import tempfile

import report

REPEAT = int(os.environ.get("ROUNDS", "9")) + 1
PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The console is off: no word of the guest is printed. Its init reports to the boot timer.
BOOT_ARGS = "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce -- /bin/true"


def machine_file(folder):
    path = f"{folder}/boot.json"
    with open(path, "w") as out:
        json.dump({
            "boot-source": {"kernel_image_path": "/stage/vmlinux", "boot_args": BOOT_ARGS},
            "drives": [{"drive_id": "rootfs", "path_on_host": "/stage/rootfs.ext4", "is_root_device": True, "is_read_only": False}],
            "machine-config": {"vcpu_count": 1, "mem_size_mib": 128},
        }, out)
    return path


def in_lab(files, *command):
    staged = [f"{report.BUILD}/kernel/vmlinux", f"{report.BUILD}/rootfs.ext4", *files]
    ran = subprocess.run([f"{PROJECT}/tests/lab/run", "--icount", "--stage", *staged, "--", *command],
                         capture_output=True, text=True, timeout=1800)
    if ran.returncode != 0:
        raise SystemExit(f"bench: the lab ended with code {ran.returncode}: {ran.stderr[-2000:]}")
    return ran


def boots(monitor, config):
    """Minstr of each boot but the first."""
    ran = in_lab([monitor, config], "measure", "--repeat", str(REPEAT), "--until", "Guest-boot-time", "--",
                 f"/stage/{os.path.basename(monitor)}", "--no-api", "--config-file", "/stage/boot.json", "--boot-timer")
    found = re.findall(r"^ns=(\d+) cpu_ns=\d+ host_irqs=(\d+)", ran.stdout, re.M)
    clean = [int(ns) / 1e6 for ns, waits in found[1:] if waits == "0"]
    if len(clean) < REPEAT // 2:
        raise SystemExit(f"bench: too many boots waited for the host:\n{ran.stdout}")
    return clean


def exits(monitor, config):
    ran = in_lab([monitor, config], f"/stage/{os.path.basename(monitor)}", "--no-api", "--config-file", "/stage/boot.json", "--timeline")
    return int(re.search(r"^ +init +\d+ +\d+ +(\d+)", ran.stderr + ran.stdout, re.M)[1])


def main():
    results = report.Report("boot")
    wisp, peer = f"{report.BUILD}/wisp", os.environ.get("PEER")
    with tempfile.TemporaryDirectory() as folder:
        config = machine_file(folder)
        own = boots(wisp, config)
        others = boots(os.path.abspath(peer), config) if peer else None
        exit_count = exits(wisp, config)
    total = statistics.median(own)
    spread = f"{min(own):.2f} to {max(own):.2f}"
    reference = ("peer.boot.vmm", statistics.median(others)) if others else None
    results.add("boot.total", total, "Minstr", goal=25, note=spread)
    results.add("boot.exits", exit_count, "exits")
    if others:
        results.add("boot.vmm", total, "Minstr", goal=0.8 * reference[1], reference=reference, note="the same kernel in both")
        results.add("peer.boot.vmm", reference[1], "Minstr", note=f"{min(others):.2f} to {max(others):.2f}")
    results.finish()


if __name__ == "__main__":
    main()
