# SPDX-License-Identifier: Apache-2.0
"""virtio-blk with a Linux guest: file systems that are worn out, monitors that are killed, and all that a drive may lie on."""
import os
import random
import re
import struct
import subprocess
import tempfile
import time

import pytest
import wisp
from test_boot import CONSOLE, KERNEL, ROOTFS, succeeded

PROBE = f"{wisp.BUILD}/tests/block_probe"
MIB = 1 << 20
SEED = int(os.environ.get("WISP_TEST_SEED") or random.randrange(1 << 31))
PAGE, SLOT = 4096, 4 * 4096


@pytest.fixture
def folder():
    """Where O_DIRECT works, which a tmpfs has not."""
    with tempfile.TemporaryDirectory(dir=wisp.BUILD) as path:
        yield path


@pytest.fixture(autouse=True)
def seed():
    print(f"WISP_TEST_SEED={SEED}")


def empty_file(folder, size, name="disk"):
    path = f"{folder}/{name}"
    with open(path, "wb") as out:
        out.truncate(size)
    return path


def file_system(folder, mib=24):
    path = empty_file(folder, mib * MIB)
    # Blocks of a page: a direct drive has blocks of its host's, and Linux mounts nothing with smaller ones.
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", "-b", str(PAGE), path], check=True)
    return path


def check_file_system(path):
    checked = subprocess.run(["/sbin/e2fsck", "-fn", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def machine(folder, command, *drives, **more):
    """Root is vda, `drives` are vdb and so on; the probe is the last of all, and found at /tmp/probe."""
    probe = f"{folder}/probe"
    data = open(PROBE, "rb").read()
    with open(probe, "wb") as out:
        out.write(data + bytes(-len(data) % 512))
    last = "bcdefgh"[len(drives)]
    all_drives = [wisp.drive(wisp.copy_of(ROOTFS, folder)), *drives, wisp.drive(probe, id="probe", root=False, read_only=True)]
    prologue = f"mount -t tmpfs none /tmp && cp /dev/vd{last} /tmp/probe && chmod +x /tmp/probe && "
    # The commands of the guest are a file: a kernel command line would not hold quotes and redirections for long.
    script = empty_file(folder, 0, "script")
    with open(script, "w") as out:
        out.write(f"{prologue}{command}\n".ljust(8192))
    after = "bcdefgh"[len(drives) + 1]
    all_drives.append(wisp.drive(script, id="script", root=False, read_only=True))
    return wisp.machine(KERNEL, boot_args=f"{CONSOLE} quiet -- /bin/sh /dev/vd{after}", drives=all_drives, **more)


def data_drive(path, **more):
    return wisp.drive(path, id="data", root=False, **more)


# ---- file systems

TORTURE = f"mount /dev/vdb /mnt && /tmp/probe torture /mnt {SEED} 3 100 && umount /mnt"
RATE = {"bandwidth": {"size": 4 * MIB, "refill_time": 500}, "ops": {"size": 300, "refill_time": 500}}


@pytest.mark.parametrize("how", [
    {"io_engine": "Async"},
    {"io_engine": "Sync"},
    {"io_engine": "Async", "direct": True},
    {"io_engine": "Sync", "direct": True},
    {"io_engine": "Async", "rate_limiter": RATE},
], ids=["async", "sync", "async-direct", "sync-direct", "rate-limits"])
def test_a_file_system_under_torture(folder, how):
    disk = file_system(folder)
    result = wisp.run(folder, machine(folder, TORTURE, data_drive(disk, cache_type="Writeback", **how), vcpus=2))
    assert "3 files are as they must be" in succeeded(result), result
    check_file_system(disk)


@pytest.mark.parametrize("engine", ["Async", "Sync"])
def test_a_file_system_that_discards(folder, engine):
    disk = file_system(folder)
    command = ("mount -o discard /dev/vdb /mnt && dd if=/dev/urandom of=/mnt/big bs=1M count=8 && sync && echo written; read line; "
               f"/tmp/probe torture /mnt {SEED} 2 50 && rm /mnt/* -r && fstrim -v /mnt && umount /mnt")
    config = machine(folder, command, data_drive(disk, cache_type="Writeback", io_engine=engine))
    with wisp.Vm(folder, config, stdin=subprocess.PIPE) as vm:
        vm.wait_for(r"(?m)^written\r?$")
        full = os.stat(disk).st_blocks * 512
        assert full > 8 * MIB
        vm.send("\n")
        assert "2 files are as they must be" in succeeded(vm.wait())
    assert os.stat(disk).st_blocks * 512 < full - 7 * MIB
    check_file_system(disk)


# ---- a monitor that is killed

def record(seed, number):
    """What block_probe writes for a record: where, and the bytes."""
    length = (1 + number % 4) * PAGE
    words = (seed + number * 0x9E3779B97F4A7C15 + i * 0xC2B2AE3D27D4EB4F & (1 << 64) - 1 for i in range(length // 8))
    return number * 0x9E3779B1, struct.pack(f"<{length // 8}Q", *words)


@pytest.mark.parametrize("how", [
    {"cache_type": "Writeback", "io_engine": "Async"},
    {"cache_type": "Unsafe", "io_engine": "Async"},
    {"cache_type": "Writeback", "io_engine": "Sync"},
    {"cache_type": "Writeback", "io_engine": "Async", "direct": True},
], ids=["writeback", "unsafe", "sync", "direct"])
def test_what_was_fsynced_survives_a_kill(folder, how):
    chance = random.Random(SEED)
    for _ in range(2):
        disk = empty_file(folder, 16 * MIB)
        with wisp.Vm(folder, machine(folder, f"/tmp/probe log /dev/vdb {SEED}", data_drive(disk, **how), vcpus=1)) as vm:
            vm.wait_for(rf"safe {chance.randrange(1, 60)}\r?\n")
            time.sleep(chance.random() * 0.03)  # any moment of a write and a flush
            vm.process.kill()
            output = vm.wait().output
        safe = [int(number) for number in re.findall(r"safe (\d+)\r?\n", output)]
        assert len(set(safe)) == len(safe) > 0
        with open(disk, "rb") as file:
            for number in safe:
                slot, content = record(SEED, number)
                file.seek(slot % (16 * MIB // SLOT) * SLOT)
                assert file.read(len(content)) == content, f"record {number} of {len(safe)} is lost"


# ---- what a drive lies on

@pytest.fixture
def loop_device(tmp_path):
    image = empty_file(tmp_path, 8 * MIB, "backing")
    device = subprocess.run(["/sbin/losetup", "--find", "--show", image], check=True, capture_output=True, text=True).stdout.strip()
    yield device, image
    subprocess.run(["/sbin/losetup", "--detach", device], check=True)


@pytest.mark.parametrize("how", [{}, {"io_engine": "Sync", "direct": True}], ids=["async", "sync-direct"])
def test_a_block_device(folder, loop_device, how):
    device, image = loop_device
    command = ("cat /sys/block/vdb/size; dd if=/dev/urandom of=/dev/vdb bs=1M count=8 && md5sum < /dev/vdb && sync && echo written; "
               "read line; blkdiscard -o 1048576 -l 4194304 /dev/vdb && dd if=/dev/vdb bs=1M skip=1 count=4 | md5sum")
    with wisp.Vm(folder, machine(folder, command, data_drive(device, **how)), stdin=subprocess.PIPE) as vm:
        vm.wait_for(r"(?m)^written\r?$")
        with open(device, "rb") as file:
            os.fsync(file.fileno())  # the drive's cache_type is Unsafe
        full = os.stat(image).st_blocks * 512
        before = subprocess.run(["md5sum", device], check=True, capture_output=True, text=True).stdout.split()[0]
        vm.send("\n")
        output = succeeded(vm.wait())
    assert re.search(rf"(?m)^{8 * MIB // 512}\r?$", output)
    sums = re.findall(r"\b[0-9a-f]{32}\b", output)
    zeroes = subprocess.run(["md5sum"], input=bytes(4 * MIB), check=True, capture_output=True).stdout.split()[0].decode()
    assert sums == [before, zeroes]
    assert full == 8 * MIB and os.stat(image).st_blocks * 512 == 4 * MIB


@pytest.mark.parametrize("engine", ["Async", "Sync"])
def test_a_block_device_that_discards_but_cannot_zero(folder, engine):
    if not os.path.exists("/dev/nullb0"):
        options = ["nr_devices=1", "discard=1", "memory_backed=1", "gb=1", "bs=512"]
        subprocess.run(["/sbin/modprobe", "null_blk", *options], check=True)
    assert open("/sys/block/nullb0/queue/write_zeroes_max_bytes").read().strip() == "0"
    command = ("tr '\\0' x < /dev/zero | dd of=/dev/vdb bs=1M count=4 iflag=fullblock conv=fsync && "
               "blkdiscard -o 1048576 -l 2097152 /dev/vdb && echo 3 > /proc/sys/vm/drop_caches && dd if=/dev/vdb bs=1M count=4 | tr -d x | wc -c")
    result = wisp.run(folder, machine(folder, command, data_drive("/dev/nullb0", io_engine=engine)))
    assert re.search(rf"(?m)^{2 * MIB}\r?$", succeeded(result)), result


def test_a_size_that_is_no_multiple_of_a_sector(folder):
    disk = empty_file(folder, MIB + 100)
    command = ("cat /sys/block/vdb/size; dd if=/dev/zero bs=512 seek=2047 count=1 of=/dev/vdb conv=fsync && "
               "! dd if=/dev/vdb bs=512 skip=2048 count=1 | grep -q .")
    result = wisp.run(folder, machine(folder, command, data_drive(disk)))
    assert re.search(r"(?m)^2048\r?$", succeeded(result)), result
    assert "the guest will not see the last 100 bytes" in result.output
    assert os.path.getsize(disk) == MIB + 100


def test_root_by_partuuid(folder):
    """A drive with a partition table, whose second partition is the root."""
    start, root = 2048, open(ROOTFS, "rb").read()
    entries = [(1, 2047), (start, len(root) // 512)]
    table = bytearray(512)
    struct.pack_into("<I", table, 440, 0x1234ABCD)
    for i, (first, count) in enumerate(entries):
        struct.pack_into("<B3xB3xII", table, 446 + 16 * i, 0, 0x83, first, count)
    table[510:] = b"\x55\xaa"
    disk = f"{folder}/partitioned"
    with open(disk, "wb") as out:
        out.write(table)
        out.seek(start * 512)
        out.write(root)
    drives = [data_drive(empty_file(folder, MIB)), wisp.drive(disk, partuuid="1234abcd-02")]
    config = wisp.machine(KERNEL, boot_args=f'{CONSOLE} quiet -- /bin/sh -c "cat /proc/cmdline; cat /proc/mounts"', drives=drives)
    output = succeeded(wisp.run(folder, config))
    assert "root=PARTUUID=1234abcd-02" in output and "/dev/root / ext4" in output


@pytest.mark.parametrize("engine", ["Async", "Sync"])
def test_another_file_while_the_guest_runs(folder, engine):
    first, second = empty_file(folder, 4 * MIB, "first"), empty_file(folder, 6 * MIB, "second")
    with open(second, "r+b") as out:
        out.seek(5 * MIB)
        out.write(b"the second file")
    # The guest writes all the while: nothing of it may be lost, or get into the wrong file.
    command = ("echo mark > /dev/vdb && sync && echo ready; "
               "until [ $(cat /sys/block/vdb/size) = 12288 ]; do dd if=/dev/zero of=/dev/vdb bs=4k seek=1 count=8 conv=fsync 2>/dev/null; done; "
               "dd if=/dev/vdb bs=1M skip=5 count=1 | head -c 15; echo; echo other | dd of=/dev/vdb seek=100 conv=fsync")
    drives = data_drive(first, cache_type="Writeback", io_engine=engine)
    with wisp.Vm(folder, machine(folder, command, drives), api_sock=f"{folder}/api") as vm:
        vm.wait_for(r"(?m)^ready\r?$")
        vm.request("PATCH", "/drives/data", {"drive_id": "data", "path_on_host": second})
        assert "the second file" in succeeded(vm.wait())
    assert open(first, "rb").read(5) == b"mark\n" and b"other" not in open(first, "rb").read()
    assert open(second, "rb").read().find(b"other\n") == 51200
