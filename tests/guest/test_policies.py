# SPDX-License-Identifier: Apache-2.0
"""System call filters at work: what runs needs every rule there is, and a call beyond them ends the process as documented."""
import os
import struct
import subprocess

import policies
import pytest
import wisp

pytestmark = pytest.mark.skipif("--no-seccomp" in wisp.FLAGS, reason="sanitizers make calls of their own")

# Rules that these tests do not need, and why they are there. One that they do need after all does not belong here.
DEVICES_TO_COME = {  # with each device its scenario comes to support/policies.py, and its rules leave this table
    ("setup", "getrandom"), 
}
ONLY_WHEN_AN_ASSERTION_FAILS = {("loop", "rt_sigaction"), ("loop", "gettid"), ("loop", "exit_group"), ("control", "rt_sigaction"),
                                ("vcpu", "rt_sigaction"), ("vcpu", "getpid"), ("vcpu", "gettid"), ("vcpu", "tgkill"), ("vcpu", "exit_group")}
# By host and by chance: the vDSO's clocks, statx, when the allocator's heap is full, which lock is contended, how a guest ends a connection.
SOMETIMES = {(threads, call) for threads in ("setup", "loop", "control", "vcpu", "drive") for call in ("clock_gettime", "brk", "futex", "poll", "restart_syscall")}
SOMETIMES |= {(threads, call) for threads in ("loop", "control") for call in ("mmap", "munmap", "larger")}
SOMETIMES |= {("loop", call) for call in ("BLKSSZGET", "BLKGETSIZE64", "shutdown", "getpid")} | {("vcpu", "rt_sigreturn"), ("setup", "fcntl")}
SOMETIMES |= {("drive", call) for call in ("write", "rt_sigprocmask", "exit_group", "getpid", "gettid", "tgkill", "rt_sigaction", "madvise", "exit", "BLKDISCARD")}
ONE_OF_SEVERAL = {"makes such a block larger": "larger", "network interface": "TUNSETIFF", "guest's driver reads": "TUNSETIFF", "leaves to it": "TUNSETIFF",
          "whose statx": "BLKSSZGET", "block device: its size": "BLKGETSIZE64", "cannot promise zeroes": "BLKDISCARD"}


def name_of(call, reason):
    return next((name for words, name in ONE_OF_SEVERAL.items() if words in reason), call)


def test_every_rule_is_needed(tmp_path):
    seen = policies.needed(tmp_path)
    idle, stale = [], []
    excused = DEVICES_TO_COME | ONLY_WHEN_AN_ASSERTION_FAILS | SOMETIMES
    for threads, parts in policies.THREADS.items():
        for rule, (call, reason) in policies.rules().items():
            part = rule.split(".")[0]
            if part not in parts or (threads == "setup" and part != "setup"):
                continue
            key = (threads, name_of(call, reason))
            if rule not in seen[threads] and key not in excused:
                idle.append(f"{threads}: {call} ({reason})")
            # rt_sigaction has several rules, and some of them are needed.
            if rule in seen[threads] and key in excused - SOMETIMES and call != "rt_sigaction":
                stale.append(f"{threads}: {call} ({reason})")
    assert not idle, "rules that nothing needs:\n" + "\n".join(idle)
    assert not stale, "rules that are needed, and excused all the same:\n" + "\n".join(stale)


def test_fewer_calls_than_firecracker():
    assert len(policies.calls_of("loop")) < 45
    assert len(policies.calls_of("control")) < 27
    assert len(policies.calls_of("vcpu")) < 25


# ---- an operator's own filters

ALLOW, TRAP = 0x7FFF0000, 0x00030000


def filter_that_traps(*numbers):
    """Allows everything but these."""
    steps = [(0x20, 0, 0, 0)]  # load the call's number
    for number in numbers:
        steps += [(0x15, 0, 1, number), (0x06, 0, 0, TRAP)]
    return steps + [(0x06, 0, 0, ALLOW)]


def filter_file(path, **programs):
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(programs)))
        for name, steps in programs.items():
            out.write(struct.pack("<Q", len(name)) + name.encode() + struct.pack("<Q", len(steps)))
            out.write(b"".join(struct.pack("<HBBI", *step) for step in steps))
    return str(path)


def test_an_operators_filter_replaces_ours(tmp_path):
    path = filter_file(tmp_path / "filter", vmm=filter_that_traps(), api=[], vcpu=[])
    result = wisp.run(tmp_path, wisp.machine(wisp.guest("status")), "--seccomp-filter", path)
    assert result.code == wisp.EXIT_OK and result.guest_status == 42, result


@pytest.mark.parametrize("threads", ["vmm", "api", "vcpu"])
def test_a_refused_call_is_named_and_ends_with_148(tmp_path, threads):
    programs = {name: filter_that_traps() for name in ("vmm", "api", "vcpu")}
    # Each kind of thread makes one of these calls for sure once its filter is on, and the handler makes none of them.
    number, name = {"vmm": (426, "io_uring_enter"), "api": (441, "epoll_pwait2"), "vcpu": (16, "ioctl")}[threads]
    programs[threads] = filter_that_traps(number)
    log = tmp_path / "log"
    result = wisp.run(tmp_path, wisp.machine(wisp.guest("first")), "--seccomp-filter", filter_file(tmp_path / "filter", **programs),
                      "--log-path", str(log))
    assert result.code == wisp.EXIT_BAD_SYSCALL, result
    line = f"wisp: stopped by SIGSYS: a system call that the policy refuses: {name} (number {number})"
    assert line in result.errors and line in log.read_text(), result


@pytest.mark.parametrize("content,said", [
    (b"", "cut short"), (b'{"vmm": {}}', "seccompiler"), (struct.pack("<Q", 0), 'no filter for "vmm"'), (b"\0" * 100_001, "longer"),
], ids=["empty", "json", "nothing", "large"])
def test_a_bad_filter_file_is_one_clear_line(tmp_path, content, said):
    path = tmp_path / "filter"
    path.write_bytes(content)
    done = subprocess.run([*wisp.COMMAND, "--api-sock", str(tmp_path / "sock"), "--seccomp-filter", path], capture_output=True, text=True)
    assert done.returncode == wisp.EXIT_GENERIC
    assert len(done.stderr.splitlines()) == 1 and said in done.stderr and str(path) in done.stderr, done.stderr
    assert not os.path.exists(tmp_path / "sock")


def test_a_program_that_the_kernel_refuses_is_one_clear_line(tmp_path):
    path = filter_file(tmp_path / "filter", vmm=[(0xFFFF, 0, 0, 0)], vcpu=[(0xFFFF, 0, 0, 0)])
    result = wisp.run(tmp_path, wisp.machine(wisp.guest("first")), "--seccomp-filter", path)
    assert result.code == wisp.EXIT_BAD_CONFIGURATION, result
    assert len(result.errors.splitlines()) == 1 and "system call filter" in result.errors


def test_without_filters(tmp_path):
    with wisp.Vm(tmp_path, wisp.machine(wisp.guest("first")), "--boot-timer", "--no-seccomp") as vm:
        vm.wait_for("Guest-boot-time")
        wanted = {"main": 0, "control": 0, "vcpu": 0}
        wisp.wait_until(lambda: filters_of(vm.process.pid) == wanted)


def test_each_thread_has_its_filters(tmp_path):
    with wisp.Vm(tmp_path, wisp.machine(wisp.guest("first")), "--boot-timer") as vm:
        vm.wait_for("Guest-boot-time")
        wanted = {"main": 2, "control": 2, "vcpu": 2}
        wisp.wait_until(lambda: filters_of(vm.process.pid) == wanted)


def filters_of(pid):
    """How many filters more than this test's own process each kind of thread has."""
    def count(path):
        return int(next(line.split()[1] for line in open(path) if line.startswith("Seccomp_filters")))

    own = count("/proc/self/status")
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        comm = open(f"/proc/{pid}/task/{thread}/comm").read().strip()
        kind = "vcpu" if comm.startswith("fc_vcpu") else "control" if comm == "fc_api" else "main" if int(thread) == pid else None
        if kind:
            found[kind] = count(f"/proc/{pid}/task/{thread}/status") - own
    return found
