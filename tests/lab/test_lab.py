# SPDX-License-Identifier: Apache-2.0
"""Tests of the lab itself, in a build folder of their own so that no L1 of the developer's is touched."""

import contextlib
import fcntl
import hashlib
import os
import re
import signal
import statistics
import subprocess
import time

import pytest

LAB = os.path.dirname(os.path.realpath(__file__))
PROJECT = os.path.dirname(os.path.dirname(LAB))
LIMIT_S = 300  # for everything here: a lab that hangs fails, it does not stop the CI


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    yield folder
    subprocess.run([f"{LAB}/down"], env={**os.environ, "WISP_BUILD": str(folder)}, check=True)


def environment(build):
    return {**os.environ, "WISP_BUILD": str(build)}


def start(build, *args, **more):
    def notice_signals():  # a test run in the background may have inherited them as ignored
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    return subprocess.Popen([f"{LAB}/run", *args], env=environment(build), cwd=PROJECT, preexec_fn=notice_signals, **{**pipes, **more})


def run(build, *args, stdin=b""):
    """Returns (exit code, standard output, standard error)."""
    with start(build, *args) as process:
        out, err = process.communicate(stdin, timeout=LIMIT_S)
    return process.returncode, out, err


def kept(build, *command, stdin=b""):
    return run(build, "--keep", "--", *command, stdin=stdin)


def left_behind(build):
    """Processes that have to do with this build folder, and folders of L1s that are not kept."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as line:
            words = line.read().decode(errors="replace")
            cwd = os.readlink(f"/proc/{pid}/cwd")
            if cwd.startswith(f"{build}/lab/l1/run-") or (str(build) in words and "virtiofsd" in words and not kept_is_up(build)):
                found.append(words)
    return found + [name for name in os.listdir(f"{build}/lab/l1") if name.startswith("run-")]


def locked(path):
    """Whether the L1 that holds this lock lives. A process that is being torn down has no command line any more, but its locks."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def kept_is_up(build):
    return any(name.startswith("kept-") for name in os.listdir(f"{build}/lab/l1"))


# A kept L1


def test_exit_code_passes_through(build):
    assert kept(build, "sh", "-c", "exit 7")[0] == 7


def test_death_by_signal_is_128_and_its_number(build):
    assert kept(build, "sh", "-c", "kill -9 $$")[0] == 137


def test_missing_command_is_127_with_one_line(build):
    code, out, err = kept(build, "no-such-command")
    assert (code, out) == (127, b"") and err == b"lab: cannot run no-such-command in L1: No such file or directory\n"


def test_stdout_and_stderr_stay_apart(build):
    assert kept(build, "sh", "-c", "echo out; echo err >&2") == (0, b"out\n", b"err\n")


def test_arguments_arrive_unchanged(build):
    words = ["a b", "", "'\"$x`", "ünï", "--", "x\ny"]
    assert kept(build, "printf", "%s|", *words)[1] == ("|".join(words) + "|").encode()


def test_output_comes_while_the_command_runs(build):
    with start(build, "--keep", "--", "sh", "-c", "echo first; read -r line; echo $line") as process:
        assert process.stdout.readline() == b"first\n"
        assert process.communicate(b"second\n", timeout=LIMIT_S)[0] == b"second\n"


def test_ten_megabytes_each_way(build):
    data = os.urandom(10_000_000)
    code, out, err = kept(build, "sh", "-c", "tee /dev/stderr", stdin=data)
    assert code == 0 and hashlib.sha256(out).digest() == hashlib.sha256(data).digest()
    assert hashlib.sha256(err).digest() == hashlib.sha256(data).digest()


def test_unread_input_does_not_hang(build):
    assert kept(build, "true", stdin=bytes(1_000_000))[0] == 0


def test_environment_is_the_labs_own(build):
    code, out, _ = run(build, "--keep", "--env", "GIVEN=a=b", "--env", "HOME", "--", "env")
    variables = dict(line.split("=", 1) for line in out.decode().splitlines())
    assert code == 0 and variables["GIVEN"] == "a=b" and variables["HOME"] == os.environ["HOME"]
    assert variables["WISP_BUILD"] == str(build) and variables["WISP_LAB"] == "1" and "PYTEST_CURRENT_TEST" not in variables


def test_build_folder_is_the_hosts(build):
    (build / "from-host").write_text("1")
    assert kept(build, "sh", "-c", "cat $WISP_BUILD/from-host; echo new > $WISP_BUILD/from-l1")[:2] == (0, b"1")
    assert (build / "from-l1").read_text() == "new\n"
    (build / "from-host").write_text("a longer text")  # L1 must not show what it remembers
    assert kept(build, "sh", "-c", "cat $WISP_BUILD/from-host")[1] == b"a longer text"


def test_project_is_there_and_read_only(build):
    code, out, _ = kept(build, "sh", "-c", "pwd; cat tests/lab/host-can | wc -l; touch tests/lab/x")
    assert code != 0 and out.decode().splitlines()[0] == PROJECT


def test_root_takes_writes_that_stay_in_l1(build):
    assert kept(build, "sh", "-c", "echo x > /usr/written-in-l1 && cat /usr/written-in-l1")[:2] == (0, b"x\n")
    assert not os.path.exists("/usr/written-in-l1")


def test_stage(build):
    code, out, _ = run(build, "--keep", "--stage", "/bin/busybox", __file__, "--", "sh", "-c", "ls /stage; /stage/busybox true")
    assert (code, out.split()) == (0, [b"busybox", b"test_lab.py"])
    assert kept(build, "ls", "/stage")[1] == b""


def test_kvm_runs_a_guest(build):
    assert kept(build, "tests/lab/host-can")[1] == b"hardware\n"
    assert kept(build, "tests/lab/kvm_smoke.py") == (0, b"3\n", b"")


def test_kernel_facilities(build):
    """Each line is something that the monitor's or the jailer's tests stand on."""
    script = """set -e
        test "$(hostname)" = lab
        for module in veth bridge nf_nat nft_chain_nat ip_tables vsock_loopback; do modprobe $module; done
        test -c /dev/vhost-vsock; test -c /dev/net/tun; test -c /dev/loop-control
        ip link add br0 type bridge; ip tuntap add tap-lab mode tap; ip link del tap-lab; ip link del br0
        mkdir /sys/fs/cgroup/test; rmdir /sys/fs/cgroup/test; grep -q memory /sys/fs/cgroup/cgroup.controllers
        echo 8 > /proc/sys/vm/nr_hugepages; grep -q 'HugePages_Total: *8' /proc/meminfo; echo 0 > /proc/sys/vm/nr_hugepages
        echo x > /dev/shm/x; rm /dev/shm/x; test -d /dev/pts; cat <(echo substitution) >/dev/null
        setpriv --reuid 65534 --regid 65534 --clear-groups true
        ! ip route | grep -q default"""
    code, _, err = kept(build, "bash", "-c", script)
    assert code == 0, err


def test_a_commands_processes_end_with_it(build):
    assert kept(build, "sh", "-c", "setsid sh -c 'exec -a marker-left cat /dev/zero' >/dev/null & :")[0] == 0
    assert kept(build, "pgrep", "-f", "marker-lef[t]")[0] == 1


def test_a_vanished_client_ends_its_command(build):
    with start(build, "--keep", "--", "bash", "-c", "echo up; exec -a marker-client cat /dev/zero >/dev/null") as process:
        assert process.stdout.readline() == b"up\n"
        process.kill()
    assert run(build, "--keep", "--timeout", "60", "--", "bash", "-c", "while pgrep -f marker-clien[t]; do :; done")[0] == 0


def test_commands_at_once_work_and_more_than_the_slots_queue(build):
    began = [start(build, "--keep", "--", "sh", "-c", f"read -r x; exit {i}") for i in range(6)]
    for process in began:
        process.stdin.write(b"go\n")
        process.stdin.close()
    assert [process.wait(LIMIT_S) for process in began] == list(range(6))


def test_clients_that_come_right_behind_one_another_are_answered(build):
    """The news of a client can reach L1 after what it wrote: the hang-up of the one before must not take the answer with it."""
    script = """if True:
        import sys, threading
        sys.path.insert(0, sys.argv[1])
        import client, l1
        [machine] = [m for m in l1.running() if m.info["kept"]]
        def come_and_go(times=20, limit_s=60):
            for _ in range(times):
                with machine.slot() as connection:
                    client.Session(connection, limit_s)
            answered.append(times)
        answered = []
        threads = [threading.Thread(target=come_and_go) for _ in range(6)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        sys.exit(sum(answered) != 120)"""
    busy = start(build, "--keep", "--", "sh", "-c", "echo up; while :; do sh -c :; done")
    assert busy.stdout.readline() == b"up\n"
    done = subprocess.run(["/usr/bin/python3", "-B", "-c", script, f"{LAB}/host"], env=environment(build), timeout=LIMIT_S, check=False)
    busy.terminate()
    assert busy.wait(LIMIT_S) == 128 + signal.SIGTERM and done.returncode == 0


def test_time_out_kills(build):
    code, out, err = run(build, "--keep", "--timeout", "1", "--", "bash", "-c", "echo up; exec cat /dev/zero >/dev/null")
    assert (code, out, err) == (124, b"up\n", b"lab: bash did not end within 1 s and was killed\n")


def test_overhead_of_a_command(build):
    kept(build, "true")
    took_s = []
    for _ in range(5):
        began = time.monotonic()
        assert kept(build, "true")[0] == 0
        took_s.append(time.monotonic() - began)
    assert min(took_s) < 1


def test_interrupt_reaches_the_command(build):
    with start(build, "--keep", "--", "bash", "-c", "trap 'echo caught; exit 9' INT; echo up; while :; do :; done") as process:
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=LIMIT_S)[0] == b"caught\n" and process.returncode == 9


def test_a_command_that_says_nothing_is_not_left_to_its_timer_alone(build):
    """QEMU can lose a timer's interrupt until the next interrupt comes: so there are some, of the port that nothing is sent to."""
    script = """
        port=$(basename /sys/bus/virtio/drivers/virtio_console/virtio*)
        interrupts() { awk -v "name=$port-virtqueues" '$NF == name { print $2 }' /proc/interrupts; }
        until=$(($(interrupts) + 10))
        while (($(interrupts) < until)); do sleep 0.1; done"""
    assert kept(build, "bash", "-euc", script) == (0, b"", b"")


def test_down_leaves_nothing(build):
    kept(build, "true")
    assert kept_is_up(build)
    subprocess.run([f"{LAB}/down"], env=environment(build), check=True)
    assert not kept_is_up(build) and left_behind(build) == []


# An L1 for one run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_nothing(build, number):
    with start(build, "--fresh", "--", "bash", "-c", "echo up; trap '' INT; cat /dev/zero > /dev/null") as process:
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        assert process.wait(LIMIT_S) == 128 + number
    assert left_behind(build) == []


def test_sigkill_takes_l1_along(build):
    with start(build, "--fresh", "--", "bash", "-c", "echo up; cat /dev/zero > /dev/null") as process:
        assert process.stdout.readline() == b"up\n"
        process.kill()
    deadline = time.monotonic() + 60
    while locked(f"{build}/lab/l1/run-{process.pid}/lock"):
        assert time.monotonic() < deadline
    assert run(build, "--fresh", "--", "true")[0] == 0  # and the next run clears the folder away
    assert left_behind(build) == []


def test_closed_output_ends_the_run(build):
    with start(build, "--fresh", "--", "yes") as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(LIMIT_S) == 128 + signal.SIGPIPE
    assert left_behind(build) == []


def test_a_panic_is_one_line(build):
    code, _, err = run(build, "--fresh", "--", "sh", "-c", "echo c > /proc/sysrq-trigger")
    assert code == 125 and err.count(b"\n") == 1 and b"Kernel panic" in err
    assert b"sysrq triggered crash" in (build / "lab/console.log").read_bytes()
    assert left_behind(build) == []


@pytest.mark.parametrize(("cgroup", "files"), [("v1", ["memory/tasks"]), ("hybrid", ["cpu/tasks", "unified/cgroup.procs"])])
def test_cgroup(build, cgroup, files):
    test = " && ".join(f"test -e /sys/fs/cgroup/{name}" for name in files)
    assert run(build, "--fresh", "--smp", "1", "--cgroup", cgroup, "--", "sh", "-c", test)[0] == 0


def test_icount_repeats_within_a_thousandth(build):
    """The median of a few repetitions, in two L1s. (The first repetition pays for what the others find cached.)"""
    medians = []
    for _ in range(2):
        code, out, _ = run(build, "--icount", "--stage", "/bin/busybox", "--",
                           "measure", "--repeat", "6", "--", "/stage/busybox", "sha256sum", "/stage/busybox")
        found = re.findall(rb"ns=(\d+) cpu_ns=\d+ host_irqs=(\d+) exit=0", out)
        assert code == 0 and len(found) == 6 and all(irqs == b"0" for _, irqs in found), out
        medians.append(statistics.median(int(ns) for ns, _ in found[1:]))
    assert abs(medians[0] / medians[1] - 1) < 0.001, medians


def test_icount_time_outs_are_not_struck_by_waits_for_the_host(build):
    assert run(build, "--icount", "--", "timeout", "20", "/usr/bin/python3", "-c", "import json, email.message")[0] == 0
