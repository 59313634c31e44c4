# SPDX-License-Identifier: Apache-2.0
"""What L1 boots from: Debian's cloud kernel, and an initramfs made here and kept in <build>/lab until an input changes."""

import contextlib
import fcntl
import glob
import hashlib
import os
import re
import shutil
import stat
import subprocess
import tempfile

from common import BUILD, LAB, LabError

BUSYBOX = "/bin/busybox"
APPLETS = ("sh", "chmod", "cp", "echo", "hostname", "ifconfig", "insmod", "ln", "mkdir", "mount", "readlink", "switch_root")
# In the order of loading, which modules.dep refines; everything else can be loaded with modprobe once L1 is up.
MODULES = ("virtio_pci", "virtio_console", "virtiofs", "overlay", "kvm-amd", "tun", "loop", "vhost_vsock")
PROGRAMS = ("agent", "measure")
CXX = ("g++", "-std=c++23", "-O2", "-Wall", "-Wextra", "-Werror")


def kernel():
    """The newest installed cloud kernel that has its modules: (path of the image, release)."""
    found = []
    for path in glob.glob("/boot/vmlinuz-*-cloud-amd64"):
        release = path.removeprefix("/boot/vmlinuz-")
        if os.path.exists(f"/lib/modules/{release}/modules.dep") and os.access(path, os.R_OK):
            found.append(([int(n) for n in re.findall(r"\d+", release)], path, release))
    if not found:
        raise LabError("no readable /boot/vmlinuz-*-cloud-amd64 with its /lib/modules: install linux-image-cloud-amd64")
    _, path, release = max(found)
    return path, release


def module_files(release):
    """The files of MODULES and of what they depend on, in an order in which they load."""
    root = f"/lib/modules/{release}"
    depends = {}
    with open(f"{root}/modules.dep", encoding="ascii") as lines:
        for line in lines:
            path, _, needs = line.partition(":")
            depends[path] = needs.split()
    by_name = {os.path.basename(path).split(".ko")[0].replace("-", "_"): path for path in depends}
    order = []
    for name in MODULES:
        path = by_name.get(name.replace("-", "_"))
        if path is None:
            continue  # built into the kernel
        for needed in (*reversed(depends[path]), path):
            if needed not in order:
                order.append(needed)
    for path in order:
        if not path.endswith(".ko"):
            raise LabError(f"{root}/{path} is compressed, which the lab's init cannot load: use Debian's kernel package")
    return [f"{root}/{path}" for path in order]


class Cpio:
    """Writes an initramfs ("newc" format, see the kernel's Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self, out):
        self.out, self.inode = out, 0

    def add(self, name, mode, data=b""):
        self.inode += 1
        encoded = name.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, device and special device numbers, length of the name, check (unused)
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        self.out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        self.pad()
        self.out.write(data)
        self.pad()

    def pad(self):
        self.out.write(bytes(-self.out.tell() % 4))

    def directory(self, name):
        self.add(name, stat.S_IFDIR | 0o755)

    def file(self, name, path, mode=0o755):
        with open(path, "rb") as data:
            self.add(name, stat.S_IFREG | mode, data.read())

    def link(self, name, target):
        self.add(name, stat.S_IFLNK | 0o777, target.encode())

    def end(self):
        self.add("TRAILER!!!", 0)


def compile_file(source, output, *kind):
    if shutil.which("g++") is None:
        raise LabError(f"g++ is missing, and {source} is to be compiled: install g++")
    done = subprocess.run([*CXX, *kind, "-o", output, source], check=False)
    if done.returncode:
        raise LabError(f"cannot compile {source}: see the compiler's message above")


def pack(path, folder, modules):
    with open(path, "wb") as out:
        cpio = Cpio(out)
        for name in ("bin", "dev", "proc", "sys", "run", "modules"):
            cpio.directory(name)
        cpio.file("init", f"{LAB}/l1/init")
        cpio.file("bin/busybox", BUSYBOX)
        for applet in APPLETS:
            cpio.link(f"bin/{applet}", "busybox")
        for program in PROGRAMS:
            cpio.file(program, f"{folder}/{program}")
        for module in modules:
            cpio.file("modules/" + os.path.basename(module), module, 0o644)
        order = "".join(os.path.basename(module) + "\n" for module in modules)
        cpio.add("modules/order", stat.S_IFREG | 0o644, order.encode())
        cpio.end()


def key_of(modules):
    """Changes whenever the initramfs would."""
    digest = hashlib.sha256()
    for path in (__file__, *(f"{LAB}/l1/{name}" for name in ("init", *(p + ".cc" for p in PROGRAMS)))):
        with open(path, "rb") as data:
            digest.update(data.read())
    for path in (BUSYBOX, *modules):
        info = os.stat(path)
        digest.update(f"{path} {info.st_size} {info.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def prepare():
    """Returns (kernel image, initramfs, key of both)."""
    vmlinuz, release = kernel()
    modules = module_files(release)
    if not os.access(BUSYBOX, os.X_OK):
        raise LabError(f"{BUSYBOX} is missing: install busybox-static")
    key = key_of(modules)
    path = f"{BUILD}/lab/l1-{key}.cpio"
    if os.path.exists(path):
        return vmlinuz, path, key
    with once(path) as (wanted, folder):
        if wanted:
            for program in PROGRAMS:
                compile_file(f"{LAB}/l1/{program}.cc", f"{folder}/{program}", "-static", "-s")
            pack(f"{folder}/l1.cpio", folder, modules)
            for old in glob.glob(f"{BUILD}/lab/l1-*.cpio"):
                os.unlink(old)
            os.rename(f"{folder}/l1.cpio", path)
    return vmlinuz, path, key


def noatime_shim():
    """See noatime.cc."""
    source = f"{LAB}/host/noatime.cc"
    with open(source, "rb") as data:
        path = f"{BUILD}/lab/noatime-{hashlib.sha256(data.read()).hexdigest()[:16]}.so"
    with once(path) as (wanted, folder):
        if wanted:
            compile_file(source, f"{folder}/shim", "-shared", "-fPIC")
            os.rename(f"{folder}/shim", path)
    return path


@contextlib.contextmanager
def once(path):
    """Gives (whether the file is still to be made, a folder to make it in) to one process at a time."""
    os.makedirs(f"{BUILD}/lab", exist_ok=True)
    with open(f"{BUILD}/lab/image.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with tempfile.TemporaryDirectory(dir=f"{BUILD}/lab") as folder:
            yield not os.path.exists(path), folder
