# SPDX-License-Identifier: Apache-2.0
"""Taps for tests, and what a host does with them."""
import contextlib
import ctypes
import fcntl
import itertools
import os
import struct
import subprocess

BUSYBOX = "/bin/busybox"
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 1, 2, 0x1000, 0x4000
CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)


@contextlib.contextmanager
def own_namespace():
    """A network namespace of the test's own, without IPv6: nothing of the host's is touched, and no frame comes unasked."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace of our own")
    try:
        for name in ("default", "all"):
            path = f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6"
            if os.path.exists(path):
                with open(path, "w") as file:
                    file.write("1")
        yield
    finally:
        libc.setns(before, CLONE_NEWNET)
        os.close(before)


def ip(*arguments):
    subprocess.run(["ip", *map(str, arguments)], check=True, capture_output=True, text=True)


class Tap:
    """A tap with an address; `guest` is that of the guest on its other end."""

    def __init__(self, *, mtu=None, address=True):
        number = next(_numbers)
        self.name = f"wtap{os.getpid() % 10000}n{number}"
        self.host, self.guest = f"10.77.{number}.1", f"10.77.{number}.2"
        ip("tuntap", "add", self.name, "mode", "tap")
        if mtu:
            ip("link", "set", self.name, "mtu", mtu)
        if address:
            ip("address", "add", f"{self.host}/24", "dev", self.name)
        ip("link", "set", self.name, "up")

    @property
    def kernel_argument(self):
        return f"ip={self.guest}::{self.host}:255.255.255.0::eth0:off"

    def remove(self):
        subprocess.run(["ip", "link", "delete", self.name], check=False, capture_output=True)


@contextlib.contextmanager
def tap(**options):
    made = Tap(**options)
    try:
        yield made
    finally:
        made.remove()


def interface(tap_name, *, id="eth0", **more):
    return {"iface_id": id, "host_dev_name": tap_name, **more}


def open_tun(name, flags=IFF_TAP | IFF_NO_PI | IFF_VNET_HDR):
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    return fd
