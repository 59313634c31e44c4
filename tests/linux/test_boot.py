# SPDX-License-Identifier: Apache-2.0
"""A real Linux guest: Wisp's own kernel and root file system, and Debian's stock kernel, in every way to boot them."""
import glob
import re
import struct
import subprocess

import pytest
import wisp

KERNEL = f"{wisp.BUILD}/kernel/vmlinux"
BZIMAGE = f"{wisp.BUILD}/kernel/bzImage"
ROOTFS = f"{wisp.BUILD}/rootfs.ext4"
INITRD = f"{wisp.BUILD}/initrd.cpio.gz"
INITRD_STOCK = f"{wisp.BUILD}/initrd-stock.cpio.gz"
CONSOLE = "console=ttyS0 reboot=k panic=1"


def boot(tmp_path, command, *flags, kernel=KERNEL, initrd=None, rootfs=ROOTFS, args=CONSOLE, **options):
    """Boots, runs a shell command as the guest's only one, and returns when the VM has ended."""
    drives = [wisp.drive(wisp.copy_of(rootfs, tmp_path))] if rootfs else []
    boot_args = f'{args} -- /bin/sh -c "{command}"'
    return wisp.run(tmp_path, wisp.machine(kernel, boot_args=boot_args, initrd=initrd, drives=drives, **options), *flags)


def succeeded(result):
    assert result.code == wisp.EXIT_OK, result
    assert result.guest_status == 0, result
    return result.output


def stock_kernel():
    found = sorted(glob.glob("/boot/vmlinuz-*-cloud-amd64"))
    assert found, "Debian's linux-image-cloud-amd64 is not installed"
    return found[-1]


def test_command_output_from_the_root_drive(tmp_path):
    output = succeeded(boot(tmp_path, "uname -r; cat /proc/mounts; echo the end"))
    assert "6.1." in output and "/dev/root / ext4" in output and "the end" in output


def test_exit_status_of_the_command(tmp_path):
    result = boot(tmp_path, "exit 7")
    assert result.code == wisp.EXIT_OK and result.guest_status == 7, result


def test_init_reports_the_end_of_boot(tmp_path):
    result = boot(tmp_path, "true", "--boot-timer", "--timeline")
    succeeded(result)
    assert re.search(r"Guest-boot-time = +\d+ us \d+ ms, +\d+ CPU us \d+ CPU ms", result.output)
    assert re.search(r"init +\d+ +\d+ +\d+", result.errors)


@pytest.mark.parametrize("vcpus", [1, 2, 4])
def test_every_vcpu_comes_online(tmp_path, vcpus):
    output = succeeded(boot(tmp_path, "echo online $(cat /sys/devices/system/cpu/online) of $(grep -c ^processor /proc/cpuinfo)",
                            vcpus=vcpus))
    assert f"online {'0' if vcpus == 1 else f'0-{vcpus - 1}'} of {vcpus}" in output


@pytest.mark.parametrize("mem_mib", [64, 128, 1024, 3072, 4096, 5120])
def test_memory_size(tmp_path, mem_mib):
    output = succeeded(boot(tmp_path, "grep MemTotal /proc/meminfo; cat /proc/iomem", mem_mib=mem_mib))
    total_mib = int(re.search(r"MemTotal: +(\d+) kB", output)[1]) / 1024
    assert mem_mib * 0.93 - 16 < total_mib <= mem_mib
    assert ("100000000-" in output) == (mem_mib > 3072), "memory above the hole"


def test_memory_above_the_hole_holds_what_is_written(tmp_path):
    command = ("mount -t tmpfs -o size=300m none /mnt; dd if=/dev/zero bs=1M count=200 2>/dev/null | tr '\\\\000' w > /mnt/f; "
               "grep -A3 Normal /proc/zoneinfo | head -4; tr -d w < /mnt/f | wc -c; wc -c < /mnt/f")
    output = succeeded(boot(tmp_path, command, mem_mib=4096))
    assert re.search(r"^0\r?$", output, re.M) and str(200 << 20) in output


def test_initrd(tmp_path):
    output = succeeded(boot(tmp_path, "grep rootfs /proc/mounts; ls /; echo from the initrd", initrd=INITRD, rootfs=None))
    assert "from the initrd" in output


def pvh_kernel(tmp_path):
    """The kernel with the note made unknown by which it says that it is Linux, so that its PVH entry is taken."""
    image = open(KERNEL, "rb").read()
    offset, size, count = struct.unpack_from("<Q", image, 32)[0], *struct.unpack_from("<HH", image, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", image, offset + i * size) for i in range(count)]
    patched = bytearray(image)
    for kind, _, at, _, _, length, *_ in headers:
        if kind == 4:
            patched[at:at + length] = image[at:at + length].replace(b"Linux\0", b"Linus\0")
    assert patched != image
    path = tmp_path / "vmlinux-pvh"
    path.write_bytes(patched)
    return path


def boot_loader_type(output):
    return int(re.search(r"^loader (\d+)", output, re.M)[1])


def test_entry_by_the_64_bit_protocol(tmp_path):
    assert boot_loader_type(succeeded(boot(tmp_path, "echo loader $(cat /proc/sys/kernel/bootloader_type)"))) == 0xff


def test_entry_by_pvh(tmp_path):
    output = succeeded(boot(tmp_path, "echo loader $(cat /proc/sys/kernel/bootloader_type)", kernel=pvh_kernel(tmp_path)))
    assert boot_loader_type(output) == 0xb0, "what Linux says of itself after a PVH entry under KVM"


def test_bzimage(tmp_path):
    succeeded(boot(tmp_path, "true", kernel=BZIMAGE))


def test_bzimage_with_initrd(tmp_path):
    succeeded(boot(tmp_path, "true", kernel=BZIMAGE, initrd=INITRD, rootfs=None))


def test_stock_kernel_finds_its_devices_by_acpi_and_powers_off(tmp_path):
    output = succeeded(boot(tmp_path, "uname -r; nproc", kernel=stock_kernel(), initrd=INITRD_STOCK, mem_mib=256, vcpus=2))
    assert "cloud-amd64" in output and re.search(r"^2\r?$", output, re.M)
    assert "powered the machine off" in output, "by ACPI, not by the reset line"


def test_the_clock_source_is_the_hosts_clock(tmp_path):
    """The TSC would keep the old time after a snapshot was loaded. What the monitor's command line says, wins."""
    folder = "/sys/devices/system/clocksource/clocksource0"
    output = succeeded(boot(tmp_path, f"cat {folder}/current_clocksource {folder}/available_clocksource; cat /proc/cmdline"))
    assert re.search(r"^kvm-clock\r?$", output, re.M), output
    assert "clocksource=kvm-clock" in output, output


@pytest.mark.parametrize("command", ["reboot", "poweroff", "halt -f -p", "reboot -f", "poweroff -f", "halt -p"])
def test_each_way_to_switch_off_ends_with_code_0(tmp_path, command):
    result = boot(tmp_path, f"{command}; sleep 20")
    assert result.code == wisp.EXIT_OK, result


def test_panic_ends_the_process(tmp_path):
    result = boot(tmp_path, "echo c > /proc/sysrq-trigger")
    if "Permission denied" in result.output or "nonexistent" in result.output:
        pytest.fail("the kernel cannot be made to panic")
    assert result.code == wisp.EXIT_OK, result
    assert "anic" in result.output


def test_no_init_panics_and_ends(tmp_path):
    drives = [wisp.drive(wisp.copy_of(ROOTFS, tmp_path))]
    result = wisp.run(tmp_path, wisp.machine(KERNEL, boot_args=f"{CONSOLE} init=/nonexistent", drives=drives))
    assert result.code == wisp.EXIT_OK, result
    assert "Kernel panic" in result.output


def test_default_command_line_boots_in_silence(tmp_path):
    with wisp.Vm(tmp_path, wisp.machine(KERNEL, drives=[wisp.drive(wisp.copy_of(ROOTFS, tmp_path))]), "--boot-timer") as vm:
        vm.wait_for("Guest-boot-time")


def test_shell_on_the_console(tmp_path):
    config = wisp.machine(KERNEL, boot_args=CONSOLE, drives=[wisp.drive(wisp.copy_of(ROOTFS, tmp_path))])
    with wisp.Vm(tmp_path, config, stdin=subprocess.PIPE) as vm:
        vm.wait_for(r"[#$] $")
        vm.send("echo $((6 * 7)) is the answer\n")
        vm.wait_for("42 is the answer")
        vm.send("poweroff\n")
        assert vm.wait().code == wisp.EXIT_OK


def test_what_the_guest_writes_is_on_the_drive_after_the_next_boot(tmp_path):
    image = wisp.copy_of(ROOTFS, tmp_path)
    for command, status in (("echo kept > /root/file && sync", 0), ("grep -q kept /root/file", 0)):
        config = wisp.machine(KERNEL, boot_args=f'{CONSOLE} -- /bin/sh -c "{command}"', drives=[wisp.drive(image)])
        result = wisp.run(tmp_path, config)
        assert result.code == wisp.EXIT_OK and result.guest_status == status, result
    assert subprocess.run(["/sbin/e2fsck", "-fn", image], capture_output=True).returncode == 0


def test_a_read_only_drive_stays_as_it_is(tmp_path):
    image = wisp.copy_of(ROOTFS, tmp_path)
    before = open(image, "rb").read()
    config = wisp.machine(KERNEL, boot_args=f'{CONSOLE} -- /bin/sh -c "! touch /root/file; dd if=/dev/zero of=/dev/vda count=1 || true"',
                          drives=[wisp.drive(image, read_only=True)])
    result = wisp.run(tmp_path, config)
    assert result.code == wisp.EXIT_OK and result.guest_status == 0, result
    assert open(image, "rb").read() == before


def test_several_drives(tmp_path):
    extra = []
    for i in range(3):
        path = tmp_path / f"data{i}"
        path.write_bytes(f"drive {i}".encode().ljust(1 << 20, b"\0"))
        extra.append(wisp.drive(path, id=f"data{i}", root=False))
    drives = [wisp.drive(wisp.copy_of(ROOTFS, tmp_path)), *extra]
    command = "for d in b c d; do head -c 7 /dev/vd$d; echo; done; dd if=/dev/zero of=/dev/vdc bs=4k count=16 conv=fsync"
    result = wisp.run(tmp_path, wisp.machine(KERNEL, boot_args=f'{CONSOLE} -- /bin/sh -c "{command}"', drives=drives))
    output = succeeded(result)
    assert all(f"drive {i}" in output for i in range(3))
    assert open(tmp_path / "data1", "rb").read(64 << 10) == bytes(64 << 10)


@pytest.mark.parametrize("engine", ["Sync", "Async"])
def test_both_block_engines_carry_the_same_bytes(tmp_path, engine):
    drives = [wisp.drive(wisp.copy_of(ROOTFS, tmp_path), io_engine=engine)]
    command = "dd if=/dev/urandom of=/root/f bs=64k count=16 && sync && md5sum < /root/f && echo 3 > /proc/sys/vm/drop_caches && md5sum < /root/f"
    result = wisp.run(tmp_path, wisp.machine(KERNEL, boot_args=f'{CONSOLE} -- /bin/sh -c "{command}"', drives=drives))
    sums = re.findall(r"\b[0-9a-f]{32}\b", succeeded(result))
    assert len(sums) == 2 and sums[0] == sums[1], result
