# SPDX-License-Identifier: Apache-2.0
"""What an operator can get wrong: one clear line that names the object and the reason, and the documented exit code."""
import json
import os
import re
import struct
import subprocess

import pytest
import wisp

AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def refused(tmp_path, config, *said, code=wisp.EXIT_BAD_CONFIGURATION, **options):
    before = sorted(os.listdir(tmp_path))
    result = wisp.run(tmp_path, config, **options)
    assert result.code == code, result
    lines = result.errors.strip().splitlines()
    assert len(lines) == 1, f"not one clear line: {result}"
    for words in said:
        assert re.search(words, lines[0]), f"{words!r} is not in {lines[0]!r}"
    assert sorted(set(os.listdir(tmp_path)) - {"machine.json"}) == sorted(set(before) - {"machine.json"})
    return lines[0]


def with_kernel(tmp_path, content, name="kernel"):
    path = tmp_path / name
    path.write_bytes(content)
    return wisp.machine(path)


# ---- kernel images


def test_missing_kernel(tmp_path):
    refused(tmp_path, wisp.machine("/nonexistent/vmlinux"), "/nonexistent/vmlinux", "No such file")


def test_kernel_is_a_directory(tmp_path):
    refused(tmp_path, wisp.machine(tmp_path), re.escape(str(tmp_path)))


def test_empty_kernel(tmp_path):
    refused(tmp_path, with_kernel(tmp_path, b""), "kernel")


def test_kernel_that_is_no_kernel(tmp_path):
    refused(tmp_path, with_kernel(tmp_path, b"#!/bin/sh\n" * 1000), "kernel")


@pytest.mark.parametrize("size", [4, 16, 63, 64, 100, 0x1000, 0x1001])
def test_kernel_cut_short(tmp_path, size):
    refused(tmp_path, with_kernel(tmp_path, open(wisp.guest("big"), "rb").read()[:size]), "kernel")


def patched(offset, layout, value):
    image = bytearray(open(wisp.guest("reset"), "rb").read())
    struct.pack_into(layout, image, offset, value)
    return bytes(image)


@pytest.mark.parametrize("image", [
    patched(4, "B", 1),            # 32-bit class
    patched(5, "B", 2),            # big-endian
    patched(18, "<H", 183),        # another architecture
    patched(16, "<H", 1),          # a relocatable object
    patched(56, "<H", 0),          # no program headers
    patched(56, "<H", 0xffff),     # too many
    patched(64 + 24, "<Q", 1 << 40),           # loaded beyond memory
    patched(64 + 24, "<Q", (1 << 64) - 4096),  # wraps
    patched(64 + 40, "<Q", 1 << 40),           # larger than memory
    patched(64 + 24, "<Q", 0x1000),            # over the boot structures
    patched(24, "<Q", 0xdead0000),             # entry outside of what is loaded
], ids=["class", "endianness", "machine", "type", "no-headers", "many-headers", "beyond-memory", "wraps", "huge", "low",
        "entry"])
def test_broken_elf(tmp_path, image):
    refused(tmp_path, with_kernel(tmp_path, image), "kernel")


def test_initrd_that_does_not_fit(tmp_path):
    initrd = tmp_path / "initrd"
    with open(initrd, "wb") as out:
        out.truncate(200 << 20)
    refused(tmp_path, wisp.machine(wisp.guest("reset"), initrd=initrd), "initrd", "128|MiB|fit")


@pytest.mark.parametrize("what", ["kernel", "initrd"])
def test_a_fifo_that_nobody_writes_to(tmp_path, what):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    config = wisp.machine(fifo) if what == "kernel" else wisp.machine(wisp.guest("big"), initrd=fifo)
    refused(tmp_path, config, re.escape(str(fifo)))


def test_missing_initrd(tmp_path):
    refused(tmp_path, wisp.machine(wisp.guest("reset"), initrd="/nonexistent/initrd"), "/nonexistent/initrd", "No such file")


def test_command_line_too_long(tmp_path):
    refused(tmp_path, wisp.machine(wisp.guest("reset"), boot_args="x" * 3000), "command line|boot_args", "2048|long")


def test_command_line_too_long_with_what_is_appended(tmp_path):
    config = wisp.machine(wisp.guest("reset"), boot_args="x" * 2040, drives=[wisp.drive(wisp.guest("reset"), read_only=True)])
    refused(tmp_path, config, "command line|boot_args")


# ---- machine


@pytest.mark.parametrize("mem_mib", [0, 1 << 50, -1, "128", 1.5, None])
def test_memory_size(tmp_path, mem_mib):
    refused(tmp_path, wisp.machine(wisp.guest("reset"), mem_mib=mem_mib), "machine.json|mem")


def test_odd_memory_size_with_huge_pages(tmp_path):
    config = wisp.machine(wisp.guest("reset"), mem_mib=129)
    config["machine-config"]["huge_pages"] = "2M"
    refused(tmp_path, config, "mem|memory", "2|multiple")


def test_more_memory_than_the_host_has(tmp_path):
    """Oversubscription is allowed, as Firecracker allows it, and said once."""
    with open("/proc/meminfo") as meminfo:
        host_mib = sum(int(line.split()[1]) for line in meminfo if line.startswith(("MemTotal", "SwapTotal"))) // 1024
    result = wisp.run(tmp_path, wisp.machine(wisp.guest("reset"), mem_mib=host_mib + 1024))
    assert result.code == wisp.EXIT_OK, result
    assert result.output.count("of memory and swap that the host has") == 1, result


@pytest.mark.parametrize("vcpus", [0, 33, 256, -1, "1"])
def test_vcpu_count(tmp_path, vcpus):
    refused(tmp_path, wisp.machine(wisp.guest("reset"), vcpus=vcpus), "machine.json|vCPU|vcpu")


# ---- drives


def test_missing_disk(tmp_path):
    refused(tmp_path, wisp.machine(wisp.guest("reset"), drives=[wisp.drive("/nonexistent/disk")]), "rootfs", "/nonexistent/disk",
            "No such file")


def test_disk_is_a_directory(tmp_path):
    refused(tmp_path, wisp.machine(wisp.guest("reset"), drives=[wisp.drive("/tmp")]), "rootfs", "/tmp")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_disk_without_permission(tmp_path, mode):
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    os.chmod(disk, mode)
    os.chmod(tmp_path, 0o755)
    for parent in list(tmp_path.parents)[:3]:
        if str(parent) != "/" and os.stat(parent).st_uid == os.geteuid():
            os.chmod(parent, os.stat(parent).st_mode | 0o011)
    config = wisp.machine(wisp.guest("reset"), drives=[wisp.drive(disk)])
    os.chmod("/dev/kvm", 0o666) if os.path.exists("/dev/kvm") else None
    try:
        refused(tmp_path, config, re.escape(str(disk)), "Permission denied", wrapper=AS_NOBODY)
    finally:
        os.chmod("/dev/kvm", 0o600) if os.path.exists("/dev/kvm") else None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_no_permission_on_kvm(tmp_path):
    for parent in list(tmp_path.parents)[:3]:
        if str(parent) != "/" and os.stat(parent).st_uid == os.geteuid():
            os.chmod(parent, os.stat(parent).st_mode | 0o011)
    os.chmod(tmp_path, 0o755)
    refused(tmp_path, wisp.machine(wisp.guest("reset")), "/dev/kvm", "permission", wrapper=AS_NOBODY)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to hide the device")
def test_no_kvm(tmp_path):
    hide = ("unshare", "--mount", "sh", "-c", "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec \"$@\"", "sh")
    refused(tmp_path, wisp.machine(wisp.guest("reset")), "/dev/kvm does not exist", wrapper=hide)


# ---- files


@pytest.mark.parametrize("text,said", [
    ("", "line 1 column 0"),
    ("{", "line 1 column 1"),
    ('{"boot-source": {"kernel_image_path": "/k"},}', "line 1 column"),
    ('{\n "boot-source": {"kernel_image_path": 5}\n}', "line 2 column"),
    ('{\n "boot-source": {"kernel_image_path": "/k", "kernel": 1}\n}', "unknown field `kernel`.*line 2 column"),
    ('{"boot-source": {}}', "missing field `kernel_image_path`"),
    ('{"nonsense": 1}', "unknown field `nonsense`"),
    ("[" * 100000, "line 1 column"),
])
def test_json_faults_say_where(tmp_path, text, said):
    refused(tmp_path, text or " ", said if text else "line 1 column", "machine.json")


@pytest.mark.parametrize("text,said", [
    ("[boot-source\n", r"line [12]"),
    ("[boot-source]\nkernel_image_path = 5\n", r"line 2"),
    ('[boot-source]\nkernel_image_path = "/k"\nkernel = 1\n', r"unknown field `kernel`.*line 3"),
    ("[nonsense]\n", r"unknown field `nonsense`.*line 1"),
])
def test_toml_faults_say_where(tmp_path, text, said):
    path = tmp_path / "machine.toml"
    path.write_text(text)
    result = subprocess.run([*wisp.COMMAND, "--no-api", "--config-file", path], capture_output=True, text=True)
    assert result.returncode == wisp.EXIT_BAD_CONFIGURATION, result
    assert re.search(said, result.stderr) and "machine.toml" in result.stderr, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_missing_machine_file():
    result = subprocess.run([*wisp.COMMAND, "--no-api", "--config-file", "/nonexistent.json"], capture_output=True, text=True)
    assert result.returncode == wisp.EXIT_BAD_CONFIGURATION
    assert "/nonexistent.json" in result.stderr and "No such file" in result.stderr


@pytest.mark.parametrize("flags", [["--nonsense"], ["--config-file"], ["--no-api"], ["--id", "a b"],
                                   ["--id", "a", "--id", "b"]])
def test_bad_command_line(flags):
    result = subprocess.run([*wisp.COMMAND, *flags], capture_output=True, text=True)
    assert result.returncode == wisp.EXIT_ARGUMENTS, result
    assert len(result.stderr.strip().splitlines()) >= 1


def test_a_key_of_somebody_elses_with_nothing_in_it_is_no_mistake(tmp_path):
    config = wisp.machine(wisp.guest("reset"))
    assert wisp.run(tmp_path, {**config, "balloon_device": None}).code == wisp.EXIT_OK
    refused(tmp_path, {**config, "balloon_device": {}}, "unknown field `balloon_device`")
    refused(tmp_path, {**config, "machine-config": {"vcpu_count": 1, "mem_size_mib": 64, "mine": None}}, "unknown field `mine`")


@pytest.mark.parametrize("flag", ["--log-path", "--metrics-path"])
def test_a_sink_that_cannot_be_opened(tmp_path, flag):
    with open(tmp_path / "machine.json", "w") as out:
        json.dump(wisp.machine(wisp.guest("reset")), out)
    result = subprocess.run([*wisp.COMMAND, "--no-api", "--config-file", tmp_path / "machine.json", flag, "/nonexistent/sink"],
                            capture_output=True, text=True, timeout=wisp.LIMIT_S)
    assert result.returncode == wisp.EXIT_GENERIC
    assert f"{flag} /nonexistent/sink: " in result.stderr and "No such file" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr


@pytest.mark.parametrize("name, sink", [("logger", {"log_path": "/nonexistent/sink"}), ("metrics", {"metrics_path": "/nonexistent/sink"})])
def test_a_sink_of_the_machine_file_that_cannot_be_opened(tmp_path, name, sink):
    refused(tmp_path, wisp.machine(wisp.guest("reset"), **{name: sink}), f"{name} /nonexistent/sink: ", "No such file")


def test_a_level_that_there_is_not_is_bad_configuration():
    result = subprocess.run([*wisp.COMMAND, "--level", "Loud"], capture_output=True, text=True, timeout=wisp.LIMIT_S)
    assert result.returncode == wisp.EXIT_BAD_CONFIGURATION and "logger level: 'Loud'. Possible values: [Off, " in result.stderr, result


@pytest.mark.parametrize("flags", [["--snapshot-version"], ["--describe-snapshot", "/nonexistent"]])
def test_snapshots_are_refused(flags):
    result = subprocess.run([*wisp.COMMAND, *flags], capture_output=True, text=True, timeout=wisp.LIMIT_S)
    assert result.returncode == wisp.EXIT_GENERIC and "snapshots are not part" in result.stderr, result


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_that_may_not_be_made(tmp_path, threads):
    """Some vCPUs have theirs by then."""
    capability = "-all,+dac_override"
    somebody = ("setpriv", "--reuid=54321", "--clear-groups", f"--inh-caps={capability}", f"--ambient-caps={capability}",
                f"--bounding-set={capability}")
    refused(tmp_path, wisp.machine(wisp.guest("reset"), vcpus=8), r"vCPU \d: cannot start its thread: .*unavailable",
            wrapper=(*somebody, "prlimit", f"--nproc={threads}"))


def test_no_guest_runs_before_all_its_vcpus_are_there(tmp_path):
    """However many of them can be made."""
    config = wisp.machine(wisp.guest("status"), vcpus=32)
    codes = []
    for files in range(20, 68, 2):
        result = wisp.run(tmp_path, config, "--boot-timer", wrapper=("prlimit", f"--nofile={files}:{files}"))
        codes.append(result.code)
        assert result.code in (wisp.EXIT_OK, wisp.EXIT_BAD_CONFIGURATION), result
        assert ("Guest-boot-time" in result.output) == (result.code == wisp.EXIT_OK), result
    assert codes == sorted(codes, reverse=True) and set(codes) == {wisp.EXIT_OK, wisp.EXIT_BAD_CONFIGURATION}


def test_few_descriptors_are_enough(tmp_path):
    result = wisp.run(tmp_path, wisp.machine(wisp.guest("reset")), wrapper=("prlimit", "--nofile=32:"))
    assert result.code == wisp.EXIT_OK, result


def test_a_closed_standard_input_and_output_are_no_trouble(tmp_path):
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(wisp.machine(wisp.guest("reset"))))
    command = " ".join(f"'{word}'" for word in wisp.COMMAND)
    script = f"exec {command} --no-api --config-file '{path}' <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", script]).returncode == wisp.EXIT_OK
