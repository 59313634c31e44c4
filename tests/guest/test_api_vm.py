# SPDX-License-Identifier: Apache-2.0
"""A VM that is driven through the API: what needs a machine, and not only the API's rules."""
import json
import os
import re
import signal
import socket
import subprocess

import prometheus_lint
import pytest
import wisp
from api import ApiVm, Refused

BENCH = f"{os.path.dirname(wisp.GUESTS)}/bench"
CTRL_ALT_DEL = "14 11 e0 71 e0 f0 71 f0 11 f0 14 "  # scan code set 2, pressed and released


def lines_of(path):
    return [json.loads(line) for line in open(path)]


def disk(folder, size=4 << 20):
    path = f"{folder}/disk"
    with open(path, "wb") as out:
        out.truncate(size)
    return path


# ---- Ctrl-Alt-Del ----

def test_ctrl_alt_del_comes_as_scan_codes_with_interrupts(tmp_path):
    with ApiVm(tmp_path, "--boot-timer") as vm:
        vm.configure(wisp.guest("keyboard"))
        vm.act("InstanceStart")
        vm.wait_for("Guest-boot-time")
        vm.act("SendCtrlAltDel")
        vm.wait_for(CTRL_ALT_DEL)
        vm.act("SendCtrlAltDel")
        assert vm.process.wait(wisp.LIMIT_S) == wisp.EXIT_OK, vm.output
        vm.wait_for("Guest-exit-status = 0")
        vm.wait_for(CTRL_ALT_DEL, count=2)


def test_ctrl_alt_del_sent_while_paused_is_there_after_it(tmp_path):
    with ApiVm(tmp_path, "--boot-timer") as vm:
        vm.configure(wisp.guest("keyboard"))
        vm.act("InstanceStart")
        vm.wait_for("Guest-boot-time")
        vm.patch("/vm", {"state": "Paused"})
        for _ in range(2):
            vm.act("SendCtrlAltDel")
        vm.patch("/vm", {"state": "Resumed"})
        assert vm.process.wait(wisp.LIMIT_S) == wisp.EXIT_OK, vm.output
        vm.wait_for(CTRL_ALT_DEL * 2)


def test_a_guest_that_never_reads_its_keyboard_gets_so_much_and_no_more(tmp_path):
    with ApiVm(tmp_path) as vm:
        with pytest.raises(Refused, match="not supported before starting"):
            vm.act("SendCtrlAltDel")
        vm.configure(wisp.guest("first"))
        vm.act("InstanceStart")
        for _ in range(4):
            vm.act("SendCtrlAltDel")
        with pytest.raises(Refused, match="^Internal VMM error: I8042 error: i8042 internal buffer full.$"):
            vm.act("SendCtrlAltDel")


# ---- sockets ----

def vsock(path):
    return {"guest_cid": 3, "uds_path": str(path)}


def test_the_vsock_socket_is_there_from_its_put_on_and_goes_with_a_signal(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    with ApiVm(tmp_path) as vm:
        vm.put("/vsock", vsock(first))
        with socket.socket(socket.AF_UNIX) as program:
            program.connect(str(first))
        vm.put("/vsock", vsock(second))
        assert not first.exists() and second.is_socket()
        vm.put("/vsock", vsock(second))
        for path, why in ((vm.sock, "Address already in use"), ("/nonexistent/v", "No such file"), ("v\0", "null bytes")):
            with pytest.raises(Refused, match=why):
                vm.put("/vsock", vsock(path))
            assert second.is_socket() and json.loads(vm.get("/vm/config"))["vsock"]["uds_path"] == str(second)
        vm.end()
        assert not second.exists() and not os.path.exists(vm.sock)


def test_a_start_that_fails_leaves_the_vsock_socket_for_the_next(tmp_path):
    (tmp_path / "none").write_text("no kernel")
    with ApiVm(tmp_path) as vm:
        vm.put("/vsock", vsock(tmp_path / "v"))
        vm.configure(tmp_path / "none")
        with socket.socket(socket.AF_UNIX) as program:
            program.connect(f"{tmp_path}/v")
            for _ in range(3):
                with pytest.raises(Refused, match="neither an ELF kernel"):
                    vm.act("InstanceStart")
                assert (tmp_path / "v").is_socket()
            vm.configure(wisp.guest("first"))
            vm.act("InstanceStart")
        assert (tmp_path / "v").is_socket()
        vm.end()
        assert not (tmp_path / "v").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_removes_the_sockets_of_a_machine_that_runs(tmp_path, number):
    with ApiVm(tmp_path) as vm:
        vm.put("/vsock", vsock(tmp_path / "v"))
        vm.configure(wisp.guest("first"))
        vm.act("InstanceStart")
        assert (tmp_path / "v").is_socket()
        vm.end(number)
        assert not (tmp_path / "v").exists() and not os.path.exists(vm.sock)


def test_a_guest_that_ends_leaves_the_sockets_to_the_client(tmp_path):
    with ApiVm(tmp_path) as vm:
        vm.put("/vsock", vsock(tmp_path / "v"))
        vm.configure(wisp.guest("reset"))
        vm.act("InstanceStart")
        assert vm.process.wait(wisp.LIMIT_S) == wisp.EXIT_OK
        assert (tmp_path / "v").is_socket() and os.path.exists(vm.sock)


def test_without_an_api_nobody_is_left_to_remove_them(tmp_path):
    config = wisp.machine(wisp.guest("reset"), vsock=vsock(tmp_path / "v"))
    for _ in range(2):
        assert wisp.run(tmp_path, config).code == wisp.EXIT_OK
        assert not (tmp_path / "v").exists()


# ---- the log, as tools that read it expect it ----

def test_each_request_is_logged_with_how_long_it_took(tmp_path):
    with ApiVm(tmp_path, "--level", "Debug", "--show-level") as vm:
        vm.configure(wisp.guest("first"))
        with pytest.raises(Refused):
            vm.get("/nothing")
        vm.act("InstanceStart")
        vm.patch("/vm", {"state": "Paused"})
        vm.patch("/vm", {"state": "Resumed"})
        vm.end()
        lines = [line.partition("] ")[2] for line in vm.output.splitlines()]
    requests = [number for number, line in enumerate(lines) if line.startswith("The API server received a ")]
    times = [number for number, line in enumerate(lines) if re.fullmatch(r"Total previous API call duration: \d+ us\.", line)]
    assert len(requests) == len(times) == 6, vm.output
    assert all(begin < end for begin, end in zip(requests, times)) and all(end < begin for end, begin in zip(times, requests[1:])), vm.output
    for action in ("pause", "resume"):
        assert any(re.fullmatch(rf"'{action} vm' VMM action took \d+ us\.", line) for line in lines), vm.output
        assert any(re.fullmatch(rf"'{action} vm' API request took \d+ us\.", line) for line in lines), vm.output
    assert f'Listening on API socket ("{tmp_path}/api.sock").' in lines
    assert ":ERROR] Received Error. Status code: 400 Bad Request. Message: Invalid request method and/or path: GET nothing." in vm.output


# ---- metrics ----

def test_metrics_have_a_line_at_the_start_at_each_flush_and_at_the_end(tmp_path):
    path = tmp_path / "metrics"
    with ApiVm(tmp_path, "--id", "vm-1") as vm:
        vm.put("/metrics", {"metrics_path": str(path), "emit_id": True, "properties": {"a": "b"}})
        vm.configure(wisp.guest("first"))
        assert path.read_text() == ""
        vm.act("InstanceStart")
        assert len(lines_of(path)) == 1
        vm.act("FlushMetrics")
        vm.act("FlushMetrics")
        assert len(lines_of(path)) == 3
        vm.end()
        lines = lines_of(path)
    assert len(lines) == 4
    assert all(list(line)[:3] == ["utc_timestamp_ms", "id", "properties"] for line in lines)
    assert all(line["id"] == "vm-1" and line["properties"] == {"a": "b"} for line in lines)
    assert all(line.keys() == lines[0].keys() for line in lines[1:])
    # Each line tells what is new; a request is counted when it is answered.
    assert [line["put_api_requests"]["actions_count"] for line in lines] == [0, 1, 1, 1]
    assert [line["put_api_requests"]["boot_source_count"] for line in lines] == [1, 0, 0, 0]


def test_metrics_count_what_devices_and_vcpus_did(tmp_path):
    path = tmp_path / "metrics"
    with ApiVm(tmp_path) as vm:
        vm.put("/metrics", {"metrics_path": str(path)})
        vm.configure(f"{BENCH}/block_guest", boot_args="work=verify size=4096 depth=8 tsc_khz=1000 span=1048576",
                     drives=[wisp.drive(disk(tmp_path), id="data", root=False)])
        vm.act("InstanceStart")
        vm.wait_for("kicks=")  # the end of the line
        requests = int(re.search(r"requests=(\d+)", vm.output)[1])
        assert vm.process.wait(wisp.LIMIT_S) == wisp.EXIT_OK
    end = lines_of(path)
    total = lambda group, key: sum(line[group][key] for line in end if group in line)
    assert requests == 512
    for group in ("block", "block_data"):
        assert total(group, "write_count") >= 256 and total(group, "write_bytes") == 4096 * total(group, "write_count")
        assert total(group, "read_count") >= 256 and total(group, "read_bytes") == 4096 * total(group, "read_count")
        assert total(group, "queue_event_count") >= 1
        for failure in ("execute_fails", "invalid_reqs_count", "event_fails", "cfg_fails", "activate_fails"):
            assert total(group, failure) == 0
        last = end[-1][group]["write_agg"]
        assert last["min_us"] <= last["max_us"] and 0 < last["max_us"]
    vcpu = end[-1]["vcpu"]
    # The exit that ends the VM is counted after the device has seen it, perhaps after the last line.
    writes = total("uart", "write_count") + total("i8042", "write_count")
    assert total("vcpu", "exit_io_out") in (writes - 1, writes)
    assert total("i8042", "reset_count") == 1
    assert total("vcpu", "exit_mmio_read") > 5 and total("vcpu", "exit_mmio_write") > 5
    assert vcpu["exit_io_out_agg"]["max_us"] >= vcpu["exit_io_out_agg"]["min_us"]


def test_pause_and_resume_have_their_times(tmp_path):
    path = tmp_path / "metrics"
    with ApiVm(tmp_path) as vm:
        vm.put("/metrics", {"metrics_path": str(path)})
        vm.configure(wisp.guest("first"))
        vm.act("InstanceStart")
        vm.patch("/vm", {"state": "Paused"})
        vm.patch("/vm", {"state": "Resumed"})
        vm.act("FlushMetrics")
    latencies = lines_of(path)[-1]["latencies_us"]
    assert 0 < latencies["vmm_pause_vm"] <= latencies["pause_vm"]
    assert latencies["full_create_snapshot"] == 0


def test_a_metrics_fifo_without_a_reader_holds_nothing_up(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ApiVm(tmp_path) as vm:
        vm.put("/metrics", {"metrics_path": str(fifo)})
        vm.configure(wisp.guest("first"))
        vm.act("InstanceStart")
        for _ in range(100):
            vm.act("FlushMetrics")
        # A reader that comes late finds whole lines.
        text = b""
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        missed = 0
        for _ in range(3):
            while True:
                try:
                    text += os.read(reader, 1 << 20)
                except BlockingIOError:
                    break
            vm.act("FlushMetrics")
        os.close(reader)
    lines = [json.loads(line) for line in text.splitlines()[:-1]]
    missed = sum(line["logger"]["missed_metrics_count"] for line in lines)
    assert len(lines) > 5 and missed > 50


ONCE = "Reinitialization of metrics not allowed."


def test_metrics_are_configured_once_by_flag_and_api(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    with ApiVm(tmp_path, "--metrics-path", str(first)) as vm:
        with pytest.raises(Refused, match=ONCE):
            vm.put("/metrics", {"metrics_path": str(second)})
        vm.configure(wisp.guest("first"))
        vm.act("InstanceStart")
        vm.act("FlushMetrics")
        assert len(lines_of(first)) == 2 and not second.exists()
    with ApiVm(tmp_path) as vm:
        vm.put("/metrics", {"metrics_path": str(first)})
        with pytest.raises(Refused, match=ONCE):
            vm.put("/metrics", {"metrics_path": str(second)})


def test_metrics_are_configured_once_by_flag_and_machine_file(tmp_path):
    config = wisp.machine(wisp.guest("first"), metrics={"metrics_path": str(tmp_path / "second")})
    run = wisp.run(tmp_path, config, "--metrics-path", str(tmp_path / "first"))
    assert run.code == wisp.EXIT_BAD_CONFIGURATION and ONCE in run.errors + run.output


def prometheus(text):
    """{name with labels: value}, and {family: type}; checks the format on the way."""
    values, types = {}, {}
    prometheus_lint.check(text)
    for line in text.splitlines():
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, f"{name} stands in two places"
            types[name] = kind
            family = name
            continue
        found = re.fullmatch(r'([a-z][a-z0-9_]*)(\{[a-z]+="[^"]*"(?:,[a-z]+="[^"]*")*\})? ([0-9.]+)', line)
        assert found, line
        assert found[1] == family or found[1] in (f"{family}_bucket", f"{family}_sum", f"{family}_count"), line
        assert found[1] + (found[2] or "") not in values, line
        values[found[1] + (found[2] or "")] = float(found[3])
    return values, types


def check_histogram(values, name, label):
    """Buckets grow up to the count. Returns the count."""
    buckets = [value for key, value in values.items() if key.startswith(f"{name}_bucket{{{label},")]
    assert len(buckets) > 10 and buckets == sorted(buckets)
    count = values[f"{name}_count{{{label}}}"]
    assert buckets[-1] == count
    return count


def test_prometheus_page(tmp_path):
    with ApiVm(tmp_path, "--boot-timer") as vm:
        values, types = prometheus(vm.get("/metrics/prometheus"))
        assert check_histogram(values, "wisp_boot_phase_duration_seconds", 'until="init"') == 0
        vm.configure(f"{BENCH}/block_guest", boot_args="work=randread size=4096 depth=4 ms=100000 tsc_khz=1000000",
                     drives=[wisp.drive(disk(tmp_path), id="data", root=False)])
        vm.act("InstanceStart")
        for _ in range(5):
            vm.get("/")
        values, types = prometheus(vm.get("/metrics/prometheus"))
        while values['wisp_block_read_total{id="data"}'] < 1000:
            values, types = prometheus(vm.get("/metrics/prometheus"))
        vm.patch("/vm", {"state": "Paused"})  # the counters of a drive that works are of different moments
        values, types = prometheus(vm.get("/metrics/prometheus"))
    assert types["wisp_block_read_seconds"] == "histogram" and types["wisp_block_read_total"] == "counter"
    reads = check_histogram(values, "wisp_block_read_seconds", 'id="data"')
    assert reads == values['wisp_block_read_total{id="data"}']
    assert values['wisp_block_read_seconds_sum{id="data"}'] > 0
    assert values["wisp_get_api_requests_instance_info_total"] == 5
    assert check_histogram(values, "wisp_api_request_duration_seconds", 'method="GET"') >= 6
    assert check_histogram(values, "wisp_api_request_duration_seconds", 'method="PUT"') == 4
    for phase in ("vm_created", "kernel_loaded", "first_instruction"):
        assert check_histogram(values, "wisp_boot_phase_duration_seconds", f'until="{phase}"') == 1
    assert values["wisp_vcpu_exits_total"] > 0


# ---- CPU templates ----

def refused_start(tmp_path, path, body):
    with ApiVm(tmp_path) as vm:
        vm.configure(wisp.guest("first"))
        if path == "/machine-config":
            body = {"vcpu_count": 1, "mem_size_mib": 128, **body}
        vm.put(path, body)
        with pytest.raises(Refused) as refusal:
            vm.act("InstanceStart")
        # It may be tried again.
        vm.put("/cpu-config", {})
        vm.act("InstanceStart")
        assert '"state":"Running"' in vm.get("/")
    return str(refusal.value).removeprefix("Start microvm error: ")


def test_msr_modifiers(tmp_path):
    seen = []
    for config in ({}, {"msr_modifiers": [{"addr": "0x1a0", "bitmap": "0b0"}]}):
        with ApiVm(tmp_path) as vm:
            vm.put("/cpu-config", config)
            vm.configure(wisp.guest("msr"))
            vm.act("InstanceStart")
            assert vm.process.wait(wisp.LIMIT_S) == wisp.EXIT_OK
            vm.wait_for("the guest reset the machine")
            seen.append(int(re.search(r"^([0-9a-f]{16})\r?$", vm.output, re.M)[1], 16))
    assert seen[0] & 1 == 1 and seen[1] == seen[0] & ~1, [hex(value) for value in seen]


def test_changes_that_kvm_cannot_make_are_refused(tmp_path):
    leaf = {"leaf": "0x7fff", "subleaf": "0x0", "flags": 0, "modifiers": [{"register": "eax", "bitmap": "0b1"}]}
    prefix = "System configuration error: Failed to create guest config: "
    assert refused_start(tmp_path, "/cpu-config", {"cpuid_modifiers": [leaf]}) == \
        prefix + "Template changes a CPUID entry not supported by KVM: Leaf: 7fff, Subleaf: 0"
    assert refused_start(tmp_path, "/cpu-config", {"msr_modifiers": [{"addr": "0xdeadbeef", "bitmap": "0b1"}]}) == \
        prefix + "KVM vcpu ioctl failed: Failed to get KVM vcpu msr: 0xdeadbeef"
    assert refused_start(tmp_path, "/cpu-config", {"msr_modifiers": [{"addr": "0x1b", "bitmap": "0b" + "1" * 64}]}).startswith(
        "System configuration error: Error configuring the vcpu for boot: Failed to set MSRs: Not all given MSRs were set.")
    assert refused_start(tmp_path, "/cpu-config", {"kvm_capabilities": ["9999", "!9998"]}) == "Kvm error: Missing KVM capabilities: 0x270f"


def test_static_templates_are_for_their_cpus(tmp_path):
    intel = "GenuineIntel" in open("/proc/cpuinfo").read()
    other = ["T2A"] if intel else ["C3", "T2", "T2S", "T2CL"]
    for name in other:
        assert refused_start(tmp_path, "/machine-config", {"cpu_template": name}) == \
            "Failed to get CPU template: CPU vendor mismatched between actual CPU and CPU template."


# ---- fuzzing ----

@pytest.mark.skipif("--no-seccomp" in wisp.FLAGS, reason="the fuzzer starts the program without the flags that sanitizers need")
def test_requests_of_all_kinds_leave_the_monitor_as_it_was():
    """The fuzzer of tests/api, with a machine and under the system call filters."""
    done = subprocess.run(["/usr/bin/python3", "-B", f"{wisp.PROJECT}/tests/api/fuzz_api.py", "6000"], capture_output=True, text=True,
                          env={**os.environ, "API_SERVER": wisp.WISP})
    assert done.returncode == 0, done.stdout + done.stderr


# ---- pause and resume ----

@pytest.mark.parametrize("engine", ["Async", "Sync"])
def test_a_thousand_pauses_under_io(tmp_path, engine):
    """The guest reads and writes all the time and checks what it reads; two vCPUs, one of which sleeps."""
    rounds = 1000
    with ApiVm(tmp_path) as vm:
        vm.configure(f"{BENCH}/block_guest", vcpus=2, boot_args="work=randread size=4096 depth=32 ms=100000 tsc_khz=100000000",
                     drives=[wisp.drive(disk(tmp_path), id="data", root=False, io_engine=engine)])
        vm.act("InstanceStart")
        done = lambda: prometheus(vm.get("/metrics/prometheus"))[0]['wisp_block_read_total{id="data"}']
        while done() < 1:
            pass
        progress = 0
        for i in range(rounds):
            if i % 50 == 0:
                while done() <= progress:  # many pauses in a row may leave the guest no time
                    pass
            vm.patch("/vm", {"state": "Paused"})
            if i % 50 == 0:
                progress = done()
                assert done() == progress, "I/O goes on in a paused machine"
            vm.patch("/vm", {"state": "Resumed"})
        first = done()
        while done() < first + 1000:
            pass
        values = prometheus(vm.get("/metrics/prometheus"))[0]
        assert values['wisp_block_execute_fails_total{id="data"}'] == 0
        assert values['wisp_block_invalid_reqs_total{id="data"}'] == 0
        assert values["wisp_patch_api_requests_drive_total"] == 0
