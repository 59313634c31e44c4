# SPDX-License-Identifier: Apache-2.0
"""One L1: a QEMU process, its virtiofsd processes and its folder <build>/lab/l1/NAME.

The folder holds a lock that QEMU inherits, so it is held for exactly as long as L1 lives, however QEMU or its starter end;
info.json (what kind of L1 this is); a socket and a lock for each slot (one command at a time each); console.log.
"""

import contextlib
import fcntl
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import image
from common import BUILD, PROJECT, LabError

FOLDER = f"{BUILD}/lab/l1"
LAST_CONSOLE = f"{BUILD}/lab/console.log"
VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
SLOTS = 4


def try_lock(path):
    """The locked file, or None if another process holds the lock."""
    lock = open(path, "a", encoding="ascii")  # noqa: SIM115: the caller keeps it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


@contextlib.contextmanager
def short_path(folder):
    """A path of the folder that fits a socket address, which holds 107 bytes."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def listen(folder, name):
    listener = socket.socket(socket.AF_UNIX)
    with short_path(folder) as path:
        listener.bind(f"{path}/{name}")
    listener.listen()
    return listener


def connect(folder, name):
    client = socket.socket(socket.AF_UNIX)
    with short_path(folder) as path:
        client.connect(f"{path}/{name}")
    return client


class L1:
    def __init__(self, name, info):
        self.folder, self.info = f"{FOLDER}/{name}", info

    # What callers ask of a running L1

    def fits(self, wanted):
        """Whether a run that wants this may use this L1."""
        mine = self.info
        same = all(mine[k] == wanted[k] for k in ("image", "project", "icount", "cgroup"))
        return same and mine["mem"] >= wanted["mem"] and wanted["smp"] in (None, mine["smp"])

    @contextlib.contextmanager
    def slot(self):
        """A connection to a free slot; waits for one if all are taken."""
        names = [f"slot{i}" for i in range(1, self.info["slots"] + 1)]
        # It polls all slots and takes the first that is free. To wait for one slot would be to wait for its command, which may run long.
        while not (lock := next(filter(None, (try_lock(f"{self.folder}/{n}.lock") for n in names)), None)):
            time.sleep(0.05)
        with lock, connect(self.folder, os.path.basename(lock.name).removesuffix(".lock")) as connection:
            yield connection

    def last_words(self):
        """Why L1 ended, as far as its console or QEMU said so."""
        lines = []
        for name, telling in (("console.log", ("Kernel panic", "lab:")), ("qemu.log", ("qemu", "fuse", "unshare", "lab"))):
            with contextlib.suppress(FileNotFoundError), open(f"{self.folder}/{name}", encoding="utf-8", errors="replace") as log:
                lines += [line.strip() for line in log if any(t in line for t in telling) and "warning:" not in line]
        return lines[0] if lines else "it said nothing"

    def keep_console(self):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{self.folder}/console.log", LAST_CONSOLE)

    def down(self):
        # While QEMU holds the lock the process numbers are those of its own processes, and cannot have been given to others.
        if os.path.isdir(self.folder) and alive(self.folder):
            processes = []
            for pid in self.info.get("pids", ()):
                with contextlib.suppress(ProcessLookupError):
                    processes.append(os.pidfd_open(pid))
            for process in processes:  # L1 has nothing to lose: its disks are memory
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            for process in processes:
                select.select([process], [], [])
                os.close(process)
        self.keep_console()
        shutil.rmtree(self.folder, ignore_errors=True)


def alive(folder):
    lock = try_lock(f"{folder}/lock")
    if lock is None:
        return True
    lock.close()
    return False


def running():
    """All L1s that live; the folders of those that died are removed."""
    found = []
    for name in sorted(os.listdir(FOLDER)) if os.path.isdir(FOLDER) else ():
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            if not alive(f"{FOLDER}/{name}"):
                shutil.rmtree(f"{FOLDER}/{name}", ignore_errors=True)
                continue
            with open(f"{FOLDER}/{name}/info.json", encoding="ascii") as data:
                found.append(L1(name, json.load(data)))
    return found


def wanted_info(options):
    """What kind of L1 the options ask for. None for smp: any number will do, see DEFAULT_SMP."""
    vmlinuz, initramfs, key = image.prepare()
    return {
        "image": key, "vmlinuz": vmlinuz, "initramfs": initramfs, "project": PROJECT,
        "icount": options.icount, "smp": 1 if options.icount else options.smp, "mem": options.mem, "cgroup": options.cgroup,
    }


def start(name, wanted, kept):
    """Starts QEMU and returns at once. The first client of a slot waits until L1 is up."""
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        raise LabError("qemu-system-x86_64 is missing: install qemu-system-x86")
    info = {**wanted, "pids": [], "smp": wanted["smp"] or DEFAULT_SMP, "slots": 1 if wanted["icount"] or not kept else SLOTS, "kept": kept}
    l1 = L1(name, info)
    os.makedirs(l1.folder)
    try:
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(try_lock(f"{l1.folder}/lock"))
            log = stack.enter_context(open(f"{l1.folder}/qemu.log", "ab"))
            fds = [lock.fileno()]
            args = [qemu, *machine_args(info), *boot_args(info)]
            for i in range(1, info["slots"] + 1):
                listener = stack.enter_context(listen(l1.folder, f"slot{i}"))
                fds.append(listener.fileno())
                args += ["-chardev", f"socket,id=slot{i},fd={listener.fileno()},server=on,wait=off",
                         "-device", f"virtserialport,chardev=slot{i},nr={i}"]
            for tag, path, cache in (("root", "/", "always"), ("project", PROJECT, "auto"), ("build", BUILD, "auto")):
                share = stack.enter_context(serve(path, cache, info, log))
                fds.append(share.fileno())
                args += ["-chardev", f"socket,id={tag},fd={share.fileno()}",
                         "-device", f"vhost-user-fs-pci,chardev={tag},tag={tag},queue-size=1024"]
            info["pids"].append(spawn(args, fds, kept, log, cwd=l1.folder).pid)
        with open(f"{l1.folder}/info.json.new", "w", encoding="ascii") as out:
            json.dump(info, out)
        os.rename(f"{l1.folder}/info.json.new", f"{l1.folder}/info.json")
    except BaseException:
        l1.down()
        raise
    return l1


# After VMRUN has injected an interrupt, QEMU (7.2 and 10.0 alike) keeps its number as the exception to raise. If the CPU is then told to
# leave its loop for any reason but an interrupt of its own, QEMU raises it in L2 once more and ignores L2's interrupt flag: the
# guest handles an interrupt inside itself, and hangs on its own locks or loses data. With several CPUs on one thread that happens each
# time another CPU's turn comes, and to about one guest in thirty; with one CPU it does not happen. More CPUs would not make L1
# faster: they share the thread.
DEFAULT_SMP = 1

# One thread for all CPUs: with a thread each, QEMU 7.2 can keep the translation of an instruction that another CPU is just patching,
# and a kernel that patches itself (KVM does so for the first VM) then never gets past the breakpoint it left there.
TCG = ["-accel", "tcg,thread=single"]

# sleep=off: when L1 has nothing to run, its clock jumps to its next timer at once. Were the wait a real one, how late this
# machine wakes QEMU would be counted as instructions. The seed is that of the emulated RDRAND.
ICOUNT = [*TCG, "-icount", "shift=0,sleep=off", "-seed", "1"]


def machine_args(info):
    accel = ICOUNT if info["icount"] else TCG
    return [
        "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
        "-cpu", "EPYC,+svm,+npt", "-smp", str(info["smp"]), *accel,
        # virtiofs reads and writes L1's memory from other processes
        "-object", f"memory-backend-memfd,id=memory,size={info['mem']}M,share=on",
        "-machine", "q35,memory-backend=memory",
        "-serial", "file:console.log", "-device", "virtio-serial-pci",
    ]


def boot_args(info):
    for path in (PROJECT, BUILD):
        if '"' in path:
            raise LabError(f"{path} has a double quote in it, which a kernel command line cannot carry: rename it")
    variables = {"PROJECT": PROJECT, "BUILD": BUILD, "CGROUP": info["cgroup"], "SLOTS": info["slots"]}
    words = ["console=ttyS0", "quiet", "panic=-1", "mitigations=off"]
    # All CPUs of L1 read one TSC, which the kernel cannot know and would give up for the slow HPET; the self-tests cost 0.3 s.
    words += ["tsc=reliable", "cryptomgr.notests"]
    # On a busy machine L1's timer may look broken for a moment. A CPU that does nothing for two minutes is: say so and end.
    words += ["no_timer_check", "watchdog_thresh=60", "softlockup_panic=1"]
    if info["icount"]:
        words += ["nokaslr", "norandmaps", "randomize_kstack_offset=off", "LAB_ICOUNT=1"]
    words += (f'LAB_{name}="{value}"' for name, value in variables.items())
    return ["-kernel", info["vmlinuz"], "-initrd", info["initramfs"], "-append", " ".join(words)]


def serve(path, cache, info, log):
    """Starts a virtiofsd for the folder and returns the connection QEMU talks to it by. It ends when that closes."""
    program = next(filter(os.path.exists, VIRTIOFSD), None)
    if program is None:
        raise LabError("virtiofsd is missing: install qemu-system-common (Debian 12) or virtiofsd (later)")
    with tempfile.TemporaryDirectory() as folder, listen(folder, "s") as listener:
        args = [program, f"--fd={listener.fileno()}", "-f", "-o", f"source={path},cache={cache},sandbox=chroot,log_level=err"]
        info["pids"].append(spawn(args, [listener.fileno()], info["kept"], log, as_root=True).pid)
        return connect(folder, "s")


def spawn(args, fds, kept, log, cwd="/", as_root=False):
    if not kept:  # dies with us, however we end
        args = ["setpriv", "--pdeathsig", "KILL", "--", *args]
    if as_root and os.geteuid():
        args = ["unshare", "--user", "--map-root-user", "--", "env", f"LD_PRELOAD={image.noatime_shim()}", *args]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def more_files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # virtiofsd holds a descriptor for each file L1 knows

    return subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=fds, cwd=cwd,
                            start_new_session=True, preexec_fn=more_files)
