# SPDX-License-Identifier: Apache-2.0
"""What a program in the jail sees, and what it may do."""
import errno
import os
import stat
import subprocess
import time

from conftest import GID, PROBE, UID


def test_layout_is_firecrackers(jails):
    seen = jails.see()
    directory, node = stat.S_IFDIR | 0o700, stat.S_IFCHR | 0o600
    expected = {"/dev": (directory, [0, 0]), "/dev/net": (directory, [0, 0]), "/run": (directory, [0, 0]),
                "/dev/kvm": (node, [10, 232]), "/dev/net/tun": (node, [10, 200]), "/dev/urandom": (node, [1, 9]),
                "/jail-probe": (stat.S_IFREG | 0o755, [0, 0])}
    tree = dict(seen["tree"])
    del tree[""]
    if os.path.exists("/dev/userfaultfd"):
        rdev = os.stat("/dev/userfaultfd").st_rdev
        expected["/dev/userfaultfd"] = (node, [os.major(rdev), os.minor(rdev)])
    pid_file = tree.pop("/jail-probe.pid")
    assert (pid_file["uid"], pid_file["gid"]) == (0, 0), "the jailed program must not choose whom the operator signals"
    assert {k: (int(v["mode"], 8), v["rdev"]) for k, v in tree.items()} == expected
    assert {(v["uid"], v["gid"]) for v in tree.values()} == {(UID, GID)}
    root = os.stat(jails.root())
    assert (root.st_uid, root.st_gid, stat.S_IMODE(root.st_mode)) == (UID, GID, 0o700)
    for parent in (jails.folder(), os.path.dirname(jails.folder())):
        assert os.stat(parent).st_uid == 0
    assert seen["cwd"] == "/" and seen["comm"] == "jail-probe"


def test_copy_is_the_executable_itself(jails):
    jails.see()
    copy = f"{jails.root()}/jail-probe"
    assert open(copy, "rb").read() == open(PROBE, "rb").read()
    assert os.stat(copy).st_ino != os.stat(PROBE).st_ino


def test_arguments(jails):
    before = time.monotonic_ns() // 1000
    seen = jails.see(program_arguments=["--api-sock", "/run/a.socket"])
    after = time.monotonic_ns() // 1000
    argv = seen["argv"]
    assert argv[:3] == ["/jail-probe", "--id", jails.id]
    assert argv[3::2][:3] == ["--start-time-us", "--start-time-cpu-us", "--parent-cpu-time-us"]
    start, cpu, parent = (int(n) for n in argv[4:10:2])
    assert before <= start <= after and 0 < parent <= cpu < after - before + 1000
    assert argv[9:] == ["--api-sock", "/run/a.socket"]


def test_environment_is_empty(jails):
    assert jails.see(env={"SECRET": "1", "LD_PRELOAD": "/x", "PATH": "/bin"})["env"] == []


def test_only_the_standard_streams_are_open(jails):
    extra = [os.open("/etc/passwd", os.O_RDONLY) for _ in range(3)]
    command = jails.command()
    done = subprocess.run(command, capture_output=True, text=True, pass_fds=extra)
    assert '"fds": [0, 1, 2]' in done.stdout


def test_a_closed_standard_stream_becomes_dev_null(jails):
    command = " ".join(jails.command(program_arguments=["--report", "/run/report"]))
    subprocess.run(["sh", "-c", f"exec {command} <&- 2>&-"], check=True)
    report = jails.report()
    assert report["fds"] == [0, 1, 2] and report["stdin_rdev"] == [1, 3]


def test_identity(jails):
    seen = jails.see()
    assert [seen[k] for k in ("uid", "euid", "gid", "egid", "groups")] == [UID, UID, GID, GID, 0]


def no_privileges(seen):
    assert [seen[f"cap_{k}"] for k in ("effective", "permitted", "inheritable", "bounding", "ambient")] == [0] * 5
    assert seen["no_new_privs"] == 1


def test_no_capability_is_left(jails):
    no_privileges(jails.see())


def test_no_capability_is_left_to_root_either(jails):
    seen = jails.see(uid=0, gid=0)
    assert seen["uid"] == 0
    no_privileges(seen)


def test_what_is_forbidden(jails):
    seen = jails.see()
    assert seen["try_mknod"] in (errno.EPERM, errno.EACCES)
    assert seen["try_chroot"] == errno.EPERM
    assert seen["try_mount"] == errno.EPERM
    assert seen["try_setuid"] == errno.EPERM
    assert seen["try_outside"] == errno.ENOENT


def landlock_abi():
    import ctypes
    return ctypes.CDLL(None).syscall(444, None, 0, 1)


def test_landlock(jails):
    seen = jails.see()
    assert seen["try_execute_other"] == (errno.EACCES if landlock_abi() >= 1 else errno.ENOENT)
    assert seen["try_tcp"] == (errno.EACCES if landlock_abi() >= 4 else errno.ECONNREFUSED)


def test_what_a_monitor_needs_is_allowed(jails):
    seen = jails.see()
    assert seen["try_file"] == 0 and seen["try_unix_socket"] == 0


def test_resource_limits(jails):
    seen = jails.see()
    assert seen["no_file"] == seen["no_file_hard"] == 2048
    seen = jails.see("--resource-limit", "no-file=100", "--resource-limit", "fsize=1048576")
    assert seen["no_file"] == seen["no_file_hard"] == 100 and seen["fsize"] == 1 << 20


def test_a_file_size_limit_of_nothing_does_not_stop_the_jailer(jails):
    assert jails.run("--resource-limit", "fsize=0").returncode != 1


def test_exit_code_and_pid_are_the_programs(jails):
    process = subprocess.Popen(jails.command(program_arguments=["--exit", "42"]), stdout=subprocess.PIPE)
    process.communicate()
    assert process.returncode == 42 and jails.pid() == process.pid
    assert not open(f"{jails.root()}/jail-probe.pid").read().endswith("\n")


def test_the_jail_is_named_after_the_file_behind_links(jails, tmp_path):
    link = tmp_path / "second"
    os.symlink(PROBE, tmp_path / "first")
    os.symlink("first", link)
    jails.see(program=str(link))
    assert os.path.exists(jails.root(program=PROBE))


def test_mounts_of_the_host_below_the_root_reach_the_jail(jails):
    """A client may mount a drive's file into a jail that runs; nothing mounted in the jail's view reaches the host."""
    script = f"""
        mount --bind {jails.base} {jails.base} && mount --make-shared {jails.base}
        "$@" & pid=$!
        while ! [ -e {jails.base}/jail-probe/shared/root/run/report ]; do sleep 0.02; done
        touch {jails.base}/jail-probe/shared/root/drive
        mount --bind /etc/passwd {jails.base}/jail-probe/shared/root/drive
        wc -l < /proc/$pid/mountinfo; grep -c drive /proc/$pid/mountinfo
        kill $pid; wait $pid; exit 0"""
    command = jails.command(id="shared", program_arguments=["--report", "/run/report", "--wait"])
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", *command], capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["2", "1"], done.stderr


def test_one_mount_is_all_there_is(jails):
    process = subprocess.Popen(jails.command(program_arguments=["--report", "/run/report", "--wait"]))
    jails.report()
    with open(f"/proc/{process.pid}/mountinfo") as file:
        assert len(file.readlines()) == 1
    assert os.readlink(f"/proc/{process.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    process.kill()
    process.wait()
