# SPDX-License-Identifier: Apache-2.0
"""A bench guest (bench/guest) as a machine file that every monitor with Firecracker's names takes."""
import functools
import json
import subprocess

import report


@functools.cache
def tsc_khz():
    """The host's, for guests that have no other clock."""
    return subprocess.run([f"{report.BUILD}/bench/tsc_khz"], check=True, capture_output=True, text=True).stdout.strip()


def write_machine(path, kernel, arguments, drives=(), **devices):
    with open(path, "w") as out:
        json.dump({
            "boot-source": {"kernel_image_path": kernel, "boot_args": f"console=ttyS0 reboot=k {arguments}"},
            "machine-config": {"vcpu_count": 1, "mem_size_mib": 128},
            "drives": list(drives),
            **devices,
        }, out)
    return path


def block_drive(path, engine):
    return {"drive_id": "bench", "path_on_host": path, "is_root_device": False, "is_read_only": False, "io_engine": engine}
