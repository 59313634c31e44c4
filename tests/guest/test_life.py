# SPDX-License-Identifier: Apache-2.0
"""How a VM ends, and what the process says and returns then."""
import fcntl
import json
import os
import signal
import subprocess
import time

import pytest
import wisp


def test_reset_ends_with_code_0(tmp_path):
    result = wisp.run(tmp_path, wisp.machine(wisp.guest("reset")))
    assert result.code == wisp.EXIT_OK, result
    assert "the guest reset the machine" in result.output


def test_acpi_power_off_ends_with_code_0(tmp_path):
    result = wisp.run(tmp_path, wisp.machine(wisp.guest("poweroff")))
    assert result.code == wisp.EXIT_OK, result
    assert "powered the machine off" in result.output


def test_triple_fault_ends_with_code_1_and_says_where(tmp_path):
    result = wisp.run(tmp_path, wisp.machine(wisp.guest("triple_fault")))
    assert result.code == wisp.EXIT_GENERIC, result
    assert "vCPU 0 stopped at rip 0x1000" in result.output and "triple fault" in result.output


def test_boot_timer_logs_each_write_and_the_exit_status_is_reported(tmp_path):
    result = wisp.run(tmp_path, wisp.machine(wisp.guest("status")), "--boot-timer")
    assert result.code == wisp.EXIT_OK, result
    assert result.output.count("Guest-boot-time = ") == 2
    assert result.guest_status == 42


def test_without_the_flag_the_boot_timer_is_silent(tmp_path):
    result = wisp.run(tmp_path, wisp.machine(wisp.guest("status")))
    assert "Guest-boot-time" not in result.output
    assert result.code == wisp.EXIT_OK


def test_timeline_names_each_step(tmp_path):
    result = wisp.run(tmp_path, wisp.machine(wisp.guest("status")), "--timeline")
    for step in ("process start", "VM created", "kernel loaded", "first guest instruction", "init"):
        assert step in result.errors, result


def test_unclaimed_addresses_read_as_ones(tmp_path):
    assert wisp.run(tmp_path, wisp.machine(wisp.guest("unclaimed"))).guest_status == 0


def test_the_i8259_begins_masked_and_can_be_used(tmp_path):
    assert wisp.run(tmp_path, wisp.machine(wisp.guest("i8259"))).guest_status == 0


def test_a_guest_that_wants_the_pit_gets_it(tmp_path):
    assert wisp.run(tmp_path, wisp.machine(wisp.guest("pit"))).guest_status == 0


def test_the_pit_costs_no_thread_until_it_is_touched(tmp_path):
    def threads_of(guest):
        with wisp.Vm(tmp_path, wisp.machine(wisp.guest(guest)), "--boot-timer") as vm:
            vm.wait_for("Guest-boot-time")
            return subprocess.run(["ps", "-eo", "comm"], capture_output=True, text=True).stdout.count(f"kvm-pit/{vm.process.pid}")

    assert threads_of("first") == 0


def test_serial_port_greets_and_echoes(tmp_path):
    with wisp.Vm(tmp_path, wisp.machine(wisp.guest("serial")), stdin=subprocess.PIPE) as vm:
        vm.wait_for("hello from ring 0")
        vm.send("some words, then the end: q")
        result = vm.wait()
    assert result.code == wisp.EXIT_OK, result
    assert "some words, then the end: q" in result.output


def test_input_longer_than_the_fifo_arrives_whole(tmp_path):
    text = "".join(chr(ord("A") + i % 16) for i in range(3000))
    with wisp.Vm(tmp_path, wisp.machine(wisp.guest("serial")), stdin=subprocess.PIPE) as vm:
        vm.wait_for("hello from ring 0")
        vm.send(text + "q")
        result = vm.wait()
    assert text in result.output


def test_serial_output_goes_to_a_file(tmp_path):
    sink = tmp_path / "console"
    config = wisp.machine(wisp.guest("serial"))
    config["serial"] = {"serial_out_path": str(sink)}
    os.mkfifo(sink)
    with open(sink, "rb", buffering=0, opener=lambda path, _: os.open(path, os.O_RDWR)) as reader, wisp.Vm(tmp_path, config) as vm:
        seen = b""
        while b"hello from ring 0\n" not in seen:
            seen += reader.read(4096)
        assert "hello from ring 0" not in vm.output


@pytest.mark.parametrize("stdin", ["null", "file"])
def test_an_idle_vm_uses_no_cpu_whatever_its_input_and_output_are(tmp_path, stdin):
    words = tmp_path / "words"
    words.write_text("x" * 1000)
    with open("/dev/null" if stdin == "null" else words) as source, open(tmp_path / "out", "w") as sink:
        path = tmp_path / "machine.json"
        path.write_text(json.dumps(wisp.machine(wisp.guest("first"))))
        process = subprocess.Popen([*wisp.COMMAND, "--no-api", "--config-file", path], stdin=source, stdout=sink)
        try:
            while "Successfully started" not in open(tmp_path / "out").read():
                assert process.poll() is None
            ticks = lambda: sum(int(n) for n in open(f"/proc/{process.pid}/stat").read().rsplit(")")[1].split()[11:13])
            before = ticks()
            time.sleep(1)
            assert ticks() - before <= 10, "an idle VM was busy for more than 100 ms of a second"
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_vm_in_order(tmp_path, number):
    with wisp.Vm(tmp_path, wisp.machine(wisp.guest("first")), "--boot-timer") as vm:
        vm.wait_for("Guest-boot-time")
        vm.signal(number)
        result = vm.wait()
    assert result.code == -number, result
    assert "stopped by" in result.output


def test_a_log_file_has_all_of_it(tmp_path):
    log = tmp_path / "log"
    result = wisp.run(tmp_path, wisp.machine(wisp.guest("reset")), "--log-path", str(log))
    assert result.code == wisp.EXIT_OK and result.output == result.errors == "", result
    lines = [line.partition("] ")[2] for line in log.read_text().splitlines()]
    assert lines[0].startswith("Running Wisp ") and "Vmm is stopping." in lines, lines
    assert lines[-1] == "Wisp exiting successfully. exit_code=0: the guest reset the machine", lines


@pytest.mark.parametrize("config, said", [
    ("{", "Configuration for VMM from one single json failed: machine file "),
    (wisp.machine(wisp.guest("reset"), drives=[wisp.drive("/nonexistent/disk")]), "Could not Start MicroVM from one single json: "),
])
def test_a_log_file_says_why_there_was_no_machine(tmp_path, config, said):
    log = tmp_path / "log"
    result = wisp.run(tmp_path, config, "--log-path", str(log))
    assert result.code == wisp.EXIT_BAD_CONFIGURATION and len(result.errors.splitlines()) == 1, result
    lines = [line.partition("] ")[2] for line in log.read_text().splitlines()]
    reason = result.errors.removeprefix("wisp: ").strip()
    assert lines[-2:] == [f"Failed to build MicroVM from Json: {said.removesuffix('machine file ')}{reason}",
                          "Wisp exiting with error. exit_code=152"], lines


def test_the_reason_is_said_once_where_the_log_and_the_errors_go_to_one_file(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    command = [*wisp.COMMAND, "--no-api", "--config-file", tmp_path / "bad.json"]
    apart = subprocess.run(command, capture_output=True, text=True, timeout=wisp.LIMIT_S)
    assert apart.stdout.count("EOF while parsing") == apart.stderr.count("EOF while parsing") == 1, apart
    together = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=wisp.LIMIT_S)
    assert together.stdout.count("EOF while parsing") == 1, together


def test_sixteen_vcpus_start(tmp_path):
    result = wisp.run(tmp_path, wisp.machine(wisp.guest("reset"), vcpus=16))
    assert result.code == wisp.EXIT_OK, result


def test_memory_beyond_the_hole(tmp_path):
    result = wisp.run(tmp_path, wisp.machine(wisp.guest("reset"), mem_mib=5 * 1024))
    assert result.code == wisp.EXIT_OK, result


def test_one_kernel_file_serves_many_and_none_changes_it(tmp_path):
    kernel = wisp.copy_of(wisp.guest("status"), tmp_path)
    before = open(kernel, "rb").read()
    for _ in range(3):
        assert wisp.run(tmp_path, wisp.machine(kernel)).guest_status == 42
    assert open(kernel, "rb").read() == before


@pytest.mark.parametrize("change", ["replaced", "truncated", "rewritten"])
def test_a_kernel_file_may_change_under_a_running_vm(tmp_path, change):
    kernel = wisp.copy_of(wisp.guest("big"), tmp_path)
    config = wisp.machine(kernel)
    with wisp.Vm(tmp_path, config, "--boot-timer", stdin=subprocess.PIPE) as vm:
        vm.wait_for("Guest-boot-time")
        if change == "replaced":
            os.rename(wisp.copy_of(wisp.guest("reset"), tmp_path), kernel)
        elif change == "truncated":
            os.truncate(kernel, 0)
        else:
            with open(kernel, "r+b") as file:
                file.write(b"\0" * os.path.getsize(kernel))
        vm.send("q")
        result = vm.wait()
    assert result.code == wisp.EXIT_OK, result
    assert result.guest_status == 0, "the guest found other bytes in its kernel than it was loaded with"


def test_output_that_is_not_read_does_not_stop_the_guest(tmp_path):
    """The guest echoes more than pipe and UART hold, then resets: what does not fit is dropped and counted."""
    (tmp_path / "machine.json").write_text(json.dumps(wisp.machine(wisp.guest("serial"))))
    metrics = tmp_path / "metrics"
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen([*wisp.COMMAND, "--no-api", "--config-file", tmp_path / "machine.json",
                                "--metrics-path", metrics], stdin=subprocess.PIPE, stdout=write_end)
    os.close(write_end)
    try:
        process.communicate(b"x" * 30000 + b"q", timeout=wisp.LIMIT_S)
        assert process.returncode == wisp.EXIT_OK
    finally:
        process.kill()
        process.wait()
        os.close(read_end)
    lines = [json.loads(line) for line in metrics.open()]
    assert sum(line["uart"]["missed_write_count"] for line in lines) > 5000
    assert sum(line["uart"]["write_count"] for line in lines) > 30000


def test_a_guest_that_marks_its_boot_again_and_again_does_not_fill_the_log(tmp_path):
    result = wisp.run(tmp_path, wisp.machine(wisp.guest("boot_timer_flood")), "--boot-timer")
    assert result.code == wisp.EXIT_OK, result
    assert 10 <= result.output.count("Guest-boot-time") <= 100, result
